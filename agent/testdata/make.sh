#!/bin/sh
# Makes the certificates beside this file, and some of them for certcache. Their private keys are thrown away: tests that sign bring their own.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$work/index.txt"
cat > "$work/ca.conf" <<CONF
[ca]
default_ca = it
[it]
database = $work/index.txt
new_certs_dir = $work
certificate = $work/ca.pem
private_key = $work/ca.key
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
crl_extensions = crl
default_crl_days = 36500
[any]
commonName = supplied
[crl]
authorityKeyIdentifier = keyid
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
CONF
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
key "$work/ca.key"
openssl req -new -x509 -config "$work/ca.conf" -extensions root -key "$work/ca.key" -days 36500 \
    -subj "/CN=hsmime test root" -out "$work/ca.pem"
# name, not before, not after, subjectAltName, keyUsage, extKeyUsage
issue() {
    key "$work/$1.key"
    openssl req -new -key "$work/$1.key" -subj "/CN=$1" -out "$work/$1.csr"
    {
        echo "basicConstraints = CA:FALSE"
        echo "authorityKeyIdentifier = keyid"
        [ -z "$4" ] || echo "subjectAltName = $4"
        echo "keyUsage = critical,$5"
        echo "extendedKeyUsage = $6"
    } > "$work/$1.ext"
    openssl ca -batch -notext -config "$work/ca.conf" -startdate "$2" -enddate "$3" -extfile "$work/$1.ext" \
        -in "$work/$1.csr" -out "$1.pem" 2>/dev/null
}
both=digitalSignature,keyAgreement
issue alice-2015 20150101000000Z 20170101000000Z email:alice@example.org "$both" emailProtection
issue alice-2024 20240101000000Z 21200101000000Z email:alice@example.org "$both" emailProtection
issue alice-2025 20250101000000Z 21200101000000Z email:alice@example.org "$both" emailProtection
issue alice-2110 21100101000000Z 21200101000000Z email:alice@example.org "$both" emailProtection
issue alice-encrypts 20250601000000Z 21200101000000Z email:alice@example.org keyAgreement emailProtection
issue alice-signs 20250601000000Z 21200101000000Z email:alice@example.org digitalSignature emailProtection
issue alice-tls 20250701000000Z 21200101000000Z email:alice@example.org "$both" clientAuth
issue bob 20240101000000Z 21200101000000Z email:Bob@Example.ORG,email:robert@example.org "$both" emailProtection
issue nobody 20240101000000Z 21200101000000Z "" "$both" emailProtection
cp "$work/ca.pem" root.pem
openssl ca -config "$work/ca.conf" -gencrl -out root.crl 2>/dev/null
openssl crl -in root.crl -outform DER -out root.crl.der
for name in alice-2015 alice-2024 alice-2025 alice-signs alice-tls bob nobody; do
    cp "$name.pem" ../../certcache/testdata/
done
