#!/usr/bin/env bash
# Makes a P-256 key that agrees on keys, and content encrypted by key agreement, with OpenSSL. Run in this
# folder after make.sh and make-curves.sh; the key is for tests and worth nothing. Valid for thirty years.
set -euo pipefail
export OPENSSL_CONF=/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout p256.key -out p256.pem -days 10950 \
    -subj /CN=p256 -config <(printf '%s\n' '[req]' 'distinguished_name=dn' '[dn]' '[v3]') -extensions v3 \
    -addext 'keyUsage=critical,digitalSignature,keyAgreement' -addext 'extendedKeyUsage=emailProtection' \
    -addext 'subjectAltName=email:p256@example.org' -addext 'subjectKeyIdentifier=hash' 2>/dev/null
openssl pkcs8 -topk8 -nocrypt -in p256.key -outform DER -out p256.p8
rm p256.key
seal() { openssl cms -encrypt -binary -in entity.txt -outform DER "$@"; }
# OpenSSL's defaults: SHA-1 in the derivation.
seal -aes-256-cbc -out agree-p256.p7m p256.pem
seal -aes-192-cbc -stream -recip p384.pem -keyopt ecdh_kdf_md:sha384 -keyopt ecdh_cofactor_mode:1 -out agree-p384.p7m
seal -aes-128-gcm -keyid -recip p521.pem -keyopt ecdh_kdf_md:sha224 -out agree-p521.p7m
seal -aes-256-gcm -recip bob.pem -recip p256.pem -keyopt ecdh_kdf_md:sha512 -recip p384.pem -keyopt ecdh_kdf_md:sha256 \
    -out agree-three.p7m
