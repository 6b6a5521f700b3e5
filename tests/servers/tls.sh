# shellcheck shell=bash disable=SC2154 # `control`, which sources this, knows the folder
# Certificates for the servers of one folder, in $folder/tls: an authority (ca.pem) that vouches for them (server.pem), and
# one that has nothing to do with them (stranger.pem). Servers that find the folder offer TLS.

# Longer than any run.
tls_days=2

tls_begin() {
  mkdir -p "$folder/tls"
  {
    tls_authority ca
    tls_authority stranger
    tls_server
  } >"$folder/tls/openssl.log" 2>&1
  {
    echo "WN_TEST_CA_FILE=$folder/tls/ca.pem"
    echo "WN_TEST_STRANGER_CA_FILE=$folder/tls/stranger.pem"
  } >"$folder/tls/url"
}

# tls_authority NAME
tls_authority() {
  tls_key "$1"
  openssl req -x509 -new -key "$folder/tls/$1.key" -subj "/CN=$1" -days "$tls_days" \
    -addext basicConstraints=critical,CA:TRUE -out "$folder/tls/$1.pem"
}

# The names that tests call the servers by.
tls_server() {
  tls_key server
  openssl req -new -key "$folder/tls/server.key" -subj /CN=localhost -out "$folder/tls/server.csr"
  openssl x509 -req -in "$folder/tls/server.csr" -CA "$folder/tls/ca.pem" -CAkey "$folder/tls/ca.key" -CAcreateserial \
    -days "$tls_days" -extfile <(echo subjectAltName=DNS:localhost,IP:127.0.0.1) -out "$folder/tls/server.pem"
}

# tls_key NAME
tls_key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$folder/tls/$1.key"
}
