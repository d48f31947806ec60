#!/usr/bin/env bash
# Makes more content encrypted to bob with the keys and certificates that make.sh made. Run in this folder.
set -euo pipefail
export OPENSSL_CONF=/dev/null
sealed() { openssl cms -encrypt -binary -outform DER -aes-256-cbc -out "$1" bob.pem; }
# OpenSSL ends the lines of its base64 in LF whatever it is told.
signed() { openssl cms -sign -binary -crlfeol -signer alice.pem -inkey alice.p8 -keyform DER -certfile ca.pem | sed 's/\r*$/\r/'; }

# Text that begins without a MIME header.
printf 'Dear Bob,\r\nthe price is 5.\r\n\r\nRegards\r\n' | sealed note.p7m
# Signed as it should be; with a line that transport folds; and changed after it was signed.
printf 'Content-Type: text/plain\r\n\r\nSigned.\r\n' | signed | sealed signed.p7m
printf 'Content-Type: text/plain\r\n\r\n%01200d\r\n' 7 | signed | sealed signed-long.p7m
printf 'Content-Type: text/plain\r\n\r\nSigned.\r\n' | signed | sed 's/Signed\./Forged./' | sealed signed-changed.p7m
