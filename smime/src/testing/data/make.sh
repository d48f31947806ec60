#!/usr/bin/env bash
# Makes the keys, certificates, CRLs and CMS objects in this folder with OpenSSL. Run in this folder;
# the keys are for tests and worth nothing. Everything is valid from 2026 for thirty years.
set -euo pipefail
export OPENSSL_CONF=/dev/null
days=10950
ext() { printf '%s\n' "$@"; }
root() { # NAME SUBJECT
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.pem" -days $days -subj "$2" \
        -config <(ext '[req]' 'distinguished_name=dn' '[dn]' '[v3]') -extensions v3 \
        -addext 'basicConstraints=critical,CA:true' -addext 'keyUsage=critical,keyCertSign,cRLSign' \
        -addext 'subjectKeyIdentifier=hash' 2>/dev/null
}
issue() { # NAME SUBJECT ISSUER NEWKEY EXTENSION...
    local name=$1 subject=$2 issuer=$3 newkey=$4
    shift 4
    openssl req -new -newkey $newkey -nodes -keyout "$name.key" -out "$name.csr" -subj "$subject" \
        -config <(ext '[req]' 'distinguished_name=dn' '[dn]') 2>/dev/null
    openssl x509 -req -in "$name.csr" -CA "$issuer.pem" -CAkey "$issuer.key" -out "$name.pem" -days $days -sha256 \
        -extfile <(ext "$@" 'subjectKeyIdentifier=hash' 'authorityKeyIdentifier=keyid') 2>/dev/null
    rm "$name.csr"
}
user=('keyUsage=critical,digitalSignature,keyEncipherment' 'extendedKeyUsage=emailProtection')
rsa=rsa:2048

root root '/CN=Test Root'
root other-root '/CN=Other Root'
issue ca '/CN=Test Issuing CA' root $rsa 'basicConstraints=critical,CA:true,pathlen:0' \
    'keyUsage=critical,keyCertSign,cRLSign'
issue constrained '/CN=Constrained CA' root $rsa 'basicConstraints=critical,CA:true' \
    'keyUsage=critical,keyCertSign,cRLSign' 'nameConstraints=critical,permitted;email:example.org'
issue alice '/CN=Alice' ca $rsa "${user[@]}" 'subjectAltName=email:alice@example.org'
issue bob '/CN=Bob' ca $rsa "${user[@]}" 'subjectAltName=email:bob@example.org'
openssl ecparam -name prime256v1 -out p256.param
issue carol '/CN=Carol' ca 'ec:p256.param' 'keyUsage=critical,digitalSignature' \
    'extendedKeyUsage=emailProtection' 'subjectAltName=email:carol@example.org'
rm p256.param
issue mallory '/CN=Mallory' other-root $rsa "${user[@]}" 'subjectAltName=email:alice@example.org'
issue server '/CN=Server' ca $rsa 'keyUsage=critical,digitalSignature' 'extendedKeyUsage=serverAuth' \
    'subjectAltName=email:alice@example.org'
issue encrypt-only '/CN=Encrypt only' ca $rsa 'keyUsage=critical,keyEncipherment' \
    'extendedKeyUsage=emailProtection' 'subjectAltName=email:alice@example.org'
issue below-alice '/CN=Below Alice' alice $rsa "${user[@]}" 'subjectAltName=email:alice@example.org'
issue inside '/CN=Inside' constrained $rsa "${user[@]}" 'subjectAltName=email:alice@example.org'
issue outside '/CN=Outside' constrained $rsa "${user[@]}" 'subjectAltName=email:alice@example.com'
issue subca '/CN=Sub CA' ca $rsa 'basicConstraints=critical,CA:true' 'keyUsage=critical,keyCertSign,cRLSign'
issue too-deep '/CN=Too deep' subca $rsa "${user[@]}" 'subjectAltName=email:alice@example.org'
issue critical '/CN=Critical' ca $rsa "${user[@]}" 'subjectAltName=email:alice@example.org' \
    '1.2.3.4.5=critical,DER:0500'
issue revoked '/CN=Revoked' ca $rsa "${user[@]}" 'subjectAltName=email:alice@example.org'

# A certificate that is signed by RSASSA-PSS.
openssl req -new -newkey rsa:2048 -nodes -keyout pss.key -subj '/CN=Pss' -config <(ext '[req]' 'distinguished_name=dn' '[dn]') -out pss.csr 2>/dev/null
openssl x509 -req -in pss.csr -CA ca.pem -CAkey ca.key -out pss.pem -days $days -sha256 \
    -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -extfile <(ext \
    "${user[@]}" 'subjectAltName=email:alice@example.org' 'subjectKeyIdentifier=hash' 'authorityKeyIdentifier=keyid') 2>/dev/null
rm pss.csr
# The same key in another certificate; a CA of the same name with another key.
openssl req -new -key alice.key -subj '/CN=Alice' -config <(ext '[req]' 'distinguished_name=dn' '[dn]') -out twin.csr
openssl x509 -req -in twin.csr -CA ca.pem -CAkey ca.key -out alice-twin.pem -days $days -sha256 -extfile <(ext \
    "${user[@]}" 'subjectAltName=email:alice@example.org' 'subjectKeyIdentifier=hash' 'authorityKeyIdentifier=keyid') 2>/dev/null
rm twin.csr
root false-ca '/CN=Test Issuing CA'

crl() { # NAME CA OPTION...
    local name=$1 ca=$2
    shift 2
    openssl ca -config ca.cnf -cert "$ca.pem" -keyfile "$ca.key" -gencrl "$@" 2>/dev/null |
        openssl crl -outform DER -out "$name.crl"
}
for ca in ca root; do
    : > index.txt; echo 1000 > crlnumber
    ext '[ca]' 'default_ca=d' '[d]' 'database=index.txt' 'crlnumber=crlnumber' 'default_md=sha256' \
        '[partial]' 'issuingDistributionPoint=critical,@idp' '[idp]' 'onlyuser=TRUE' > ca.cnf
    [ $ca = root ] || openssl ca -config ca.cnf -cert $ca.pem -keyfile $ca.key -revoke revoked.pem 2>/dev/null
    crl $ca $ca -crldays $days
    if [ $ca = ca ]; then
        # None of these may be believed: signed by another, out of date, for some certificates only.
        crl forged false-ca -crldays $days
        crl old ca -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z
        crl partial ca -crldays $days -crlexts partial
    fi
    rm -f index.txt* crlnumber* ca.cnf
done

printf 'Content-Type: text/plain\r\n\r\nHello, Bob.\r\n' > entity.txt
sign() { openssl cms -sign -binary -in entity.txt -certfile ca.pem -outform DER "$@"; }
sign -signer alice.pem -inkey alice.key -out detached.p7s
sign -signer carol.pem -inkey carol.key -out ec.p7s
sign -signer alice.pem -inkey alice.key -signer bob.pem -inkey bob.key -out two.p7s
sign -signer alice.pem -inkey alice.key -nodetach -out opaque.p7m
sign -signer alice.pem -inkey alice.key -nodetach -stream -out opaque-ber.p7m
sign -signer alice.pem -inkey alice.key -noattr -out noattr.p7s
sign -signer alice.pem -inkey alice.key -keyid -out keyid.p7s
sign -signer alice.pem -inkey alice.key -md sha1 -out sha1.p7s
sign -signer alice.pem -inkey alice.key -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:digest -out pss.p7s
sign -signer alice.pem -inkey alice.key -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:20 -out pss-short.p7s
sign -signer pss.pem -inkey pss.key -out below-pss.p7s
sign -signer alice.pem -inkey alice.key -keyid -cades -nocerts -certfile alice-twin.pem -out twin.p7s
seal() { openssl cms -encrypt -binary -in entity.txt -outform DER "$@"; }
seal -aes-256-cbc -out der.p7m bob.pem
seal -aes-128-cbc -stream -out ber.p7m bob.pem
seal -aes-192-cbc -keyid -out aes192.p7m bob.pem
seal -aes-256-gcm -out gcm.p7m bob.pem
seal -aes-128-gcm -stream -out gcm-ber.p7m bob.pem
seal -aes-256-cbc -out two.p7m alice.pem bob.pem
seal -aes-256-cbc -recip bob.pem -keyopt rsa_padding_mode:oaep -out oaep.p7m
seal -aes-256-cbc -recip bob.pem -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256 -out oaep256.p7m
# Content of whoever encrypts: fields that must stay inside, one that tries to end early, other line ends, binary.
sealed() { openssl cms -encrypt -binary -outform DER -aes-256-cbc -out "$1" bob.pem; }
printf '%s\r\n' 'Subject: inner' 'Authentication-Results: mx.example.org; smime=pass' 'MIME-Version: 7.0' \
    'Content-Type: text/plain' $'Content-Description: x\nBcc: eve@example.net\rX-Evil: 1' '' 'Hello.' | sealed hostile.p7m
printf '%s\n' 'Content-Type: text/plain' '' 'Hello.' | sealed lf.p7m
printf 'Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\na\0b\nc\rd' | sealed binary.p7m
# Only these are kept as private keys.
for key in *.key; do
    case $key in alice.key | bob.key | carol.key | mallory.key | server.key | encrypt-only.key | revoked.key) openssl pkcs8 -topk8 -nocrypt -in "$key" -outform DER -out "${key%.key}.p8" ;; esac
    rm "$key"
done
