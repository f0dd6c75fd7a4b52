#!/bin/sh
# Makes the secret files that compose.yaml reads, readable by their owner alone; what is there stays as it is.
set -eu
umask 077
mkdir -p "$(dirname "$0")/secrets"
cd "$(dirname "$0")/secrets"
for name in ray_token mlflow_password mlflow_session_key postgres_password; do
  [ -s "$name" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$name"
done
# Root's files would be closed to the image's user.
[ "$(id -u)" -ne 0 ] || chown -R "${LMSA_UID:-1000}" .
