#!/bin/sh
# Certificates for the three servers of deploy/compose.yaml: a separate CA, and one certificate each, with the names by
# which the servers reach each other and by which clients of the endpoint reach them (SNI chooses the horizon). Requires
# openssl. Existing files are kept.
set -eu
cd "$(dirname "$0")"
mkdir -p tls
cd tls
[ -e ca.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=plgw compose CA" \
    -keyout ca.key -out ca.pem
for n in 0 1 2; do
    [ -e "mongo-$n.pem" ] && continue
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=plgw/CN=mongo-$n" -keyout "mongo-$n.key" \
        -out "mongo-$n.csr"
    printf 'subjectAltName=IP:10.1.0.%s,IP:127.0.0.1,DNS:localhost,DNS:mongo-%s,DNS:pl-0-us-east-1-k45tj.mongodb.net\n' \
        "$((11 + n))" "$n" >"mongo-$n.ext"
    openssl x509 -req -in "mongo-$n.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -extfile "mongo-$n.ext" \
        -out "mongo-$n.crt"
    cat "mongo-$n.key" "mongo-$n.crt" >"mongo-$n.pem"
    rm "mongo-$n.csr" "mongo-$n.ext" "mongo-$n.crt" "mongo-$n.key"
done
# The servers' user in the image does not exist on this machine.
chmod 0644 mongo-?.pem ca.pem
