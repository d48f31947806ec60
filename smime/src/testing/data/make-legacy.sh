#!/usr/bin/env bash
# Makes what old senders wrote, with the keys and certificates that make.sh made: ciphers, digests and keys that
# are only read, never written. Run in this folder; OpenSSL must have its legacy provider.
set -euo pipefail
export OPENSSL_CONF=/dev/null
with() { openssl cms -binary -provider default -provider legacy -in entity.txt -outform DER "$@"; }

with -encrypt -des -out des.p7m bob.pem
with -encrypt -des3 -out des3.p7m bob.pem
with -encrypt -des3 -stream -out des3-ber.p7m bob.pem
with -encrypt -rc2-40 -out rc2-40.p7m bob.pem
with -encrypt -rc2-64 -out rc2-64.p7m bob.pem
with -encrypt -rc2-128 -out rc2-128.p7m bob.pem
# Recipients of other kinds before ours.
with -encrypt -aes-256-cbc -pwri_password secret -out pwri.p7m bob.pem
with -encrypt -aes-256-cbc -secretkey 000102030405060708090a0b0c0d0e0f -secretkeyid 0102 -out kek.p7m bob.pem

sign() { # NAME OPTION...
    with -sign -signer alice.pem -inkey alice.p8 -certfile ca.pem -out "$@"
}
sign md5.p7s -md md5
sign sha224.p7s -md sha224
pss='-keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen'
sign pss-max.p7s $pss:max
sign pss-zero.p7s $pss:0
sign pss-mask.p7s $pss:digest -keyopt rsa_mgf1_md:sha512
sign pss-mask-sha1.p7s $pss:digest -keyopt rsa_mgf1_md:sha1
sign pss-sha1.p7s -md sha1 $pss:20
# Keys of the last century, in certificates that nobody issued.
for bits in 512 1024; do
    openssl req -x509 -newkey rsa:$bits -nodes -keyout small.key -out rsa$bits.pem -days 10950 -subj "/CN=RSA $bits" \
        -config <(printf '[req]\ndistinguished_name=dn\n[dn]\n') -addext subjectAltName=email:alice@example.org 2>/dev/null
    for md in md5 sha1 sha256 sha384; do
        [ $bits-$md != 512-sha384 ] || continue # does not fit
        with -sign -signer rsa$bits.pem -inkey small.key -md $md -out rsa$bits-$md.p7s
    done
done
with -sign -signer rsa1024.pem -inkey small.key $pss:digest -out rsa1024-pss.p7s
rm small.key
# Signed text in a cipher with short blocks.
{
    printf 'Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n'
    printf 'Content-Transfer-Encoding: base64\r\n\r\n'
    base64 opaque.p7m | sed 's/$/\r/'
} | openssl cms -encrypt -binary -outform DER -des3 -out des3-signed.p7m bob.pem
