#!/usr/bin/env bash
# Makes the keys and certificates of this folder that are on curves other than P-256, with OpenSSL: an
# Ed25519 CA, and below it Ed25519 (signs), P-384 and P-521 (sign and agree), X25519 (agrees only). Run in
# this folder; the keys are for tests and worth nothing. Everything is valid from 2026 for thirty years.
set -euo pipefail
export OPENSSL_CONF=/dev/null
days=10950
ext() { printf '%s\n' "$@"; }
openssl genpkey -algorithm ed25519 -out curves-root.key
openssl req -x509 -key curves-root.key -out curves-root.pem -days $days -subj '/CN=Test Curves Root' \
    -config <(ext '[req]' 'distinguished_name=dn' '[dn]' '[v3]') -extensions v3 \
    -addext 'basicConstraints=critical,CA:true' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
    -addext 'subjectKeyIdentifier=hash'
issue() { # NAME USAGE ALGORITHM...
    local name=$1 usage=$2
    shift 2
    openssl genpkey "$@" -out "$name.key"
    openssl pkey -in "$name.key" -pubout -out "$name.pub"
    # An X25519 key cannot sign its request: the CA's key does, and the certificate gets the other.
    openssl req -new -key curves-root.key -subj "/CN=$name" -config <(ext '[req]' 'distinguished_name=dn' '[dn]') \
        -out "$name.csr"
    openssl x509 -req -in "$name.csr" -CA curves-root.pem -CAkey curves-root.key -force_pubkey "$name.pub" \
        -out "$name.pem" -days $days -extfile <(ext "keyUsage=critical,$usage" \
        'extendedKeyUsage=emailProtection' "subjectAltName=email:$name@example.org" 'subjectKeyIdentifier=hash' \
        'authorityKeyIdentifier=keyid') 2>/dev/null
    openssl pkcs8 -topk8 -nocrypt -in "$name.key" -outform DER -out "$name.p8"
    rm "$name.csr" "$name.pub" "$name.key"
}
issue ed25519 digitalSignature -algorithm ed25519
issue x25519 keyAgreement -algorithm x25519
issue p384 digitalSignature,keyAgreement -algorithm ec -pkeyopt ec_paramgen_curve:P-384
issue p521 digitalSignature,keyAgreement -algorithm ec -pkeyopt ec_paramgen_curve:P-521
rm curves-root.key
