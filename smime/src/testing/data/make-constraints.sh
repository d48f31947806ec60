#!/usr/bin/env bash
# Makes CAs with excluded and permitted names, and certificates below them that spell the names
# otherwise, with OpenSSL. Run in this folder; it leaves what make.sh makes alone, and keeps no keys.
set -euo pipefail
export OPENSSL_CONF=/dev/null
days=10950
ext() { printf '%s\n' "$@"; }
openssl ecparam -name prime256v1 -out p256.param
# All have one key: only names matter here.
openssl genpkey -paramfile p256.param -out nc.key
rm p256.param
request() { # TYPE FIELD=VALUE...: a subject whose strings are of this type (openssl req, string_mask)
    local type=$1
    shift
    openssl req -new -key nc.key -out nc.csr -utf8 -config <(
        ext '[req]' 'prompt=no' 'distinguished_name=dn' "string_mask=$type" '[dn]' "$@"
    )
}
sign() { # NAME EXTENSION...
    openssl x509 -req -in nc.csr -CA nc-root.pem -CAkey nc.key -out "$1.pem" -days $days -sha256 \
        -extfile <(ext "${@:2}") 2>/dev/null
    rm nc.csr
}
request utf8only 'CN=Name Root'
openssl x509 -req -in nc.csr -signkey nc.key -out nc-root.pem -days $days -sha256 -extfile <(ext \
    'basicConstraints=critical,CA:true' 'keyUsage=critical,keyCertSign' 'subjectKeyIdentifier=hash') 2>/dev/null
ca() { # NAME CONSTRAINTS [LINE...]
    request utf8only "CN=$1"
    sign "nc-$1" 'basicConstraints=critical,CA:true' 'keyUsage=critical,keyCertSign' \
        "nameConstraints=critical,$2" "${@:3}"
}
ca excluded-mailbox 'excluded;email:alice@example.org'
ca permitted-mailbox 'permitted;email:alice@example.org'
# OpenSSL's configuration cannot say an empty name: excluded, rfc822Name "".
ca excluded-all 'DER:30:06:a1:04:30:02:81:00'
ca excluded-name 'excluded;dirName:name' '[name]' 'O=Example Gmbh'
ca permitted-name 'permitted;dirName:name' '[name]' 'O=Example Gmbh'
leaf() { # NAME ISSUER MAILBOX TYPE ORGANISATION
    request "$4" "O=$5" 'CN=Alice'
    openssl x509 -req -in nc.csr -CA "nc-$2.pem" -CAkey nc.key -out "nc-$1.pem" -days $days -sha256 -extfile <(ext \
        'keyUsage=critical,digitalSignature' 'extendedKeyUsage=emailProtection' "subjectAltName=email:$3") 2>/dev/null
    rm nc.csr
}
for issuer in excluded-mailbox permitted-mailbox excluded-all; do
    leaf $issuer-same $issuer alice@example.org utf8only Example
    leaf $issuer-case $issuer ALICE@Example.ORG utf8only Example
    leaf $issuer-other $issuer bob@example.org utf8only Example
done
for issuer in excluded-name permitted-name; do
    leaf $issuer-same $issuer alice@example.org utf8only 'Example Gmbh'
    leaf $issuer-case $issuer alice@example.org utf8only 'EXAMPLE GMBH'
    leaf $issuer-spaces $issuer alice@example.org utf8only 'Example  Gmbh'
    leaf $issuer-printable $issuer alice@example.org pkix 'Example Gmbh'
    leaf $issuer-teletex $issuer alice@example.org MASK:0x4 'Example Gmbh'
    leaf $issuer-bmp $issuer alice@example.org MASK:0x800 'Example Gmbh'
    leaf $issuer-other $issuer alice@example.org utf8only 'Example GmbH and Sons'
done
rm nc.key
