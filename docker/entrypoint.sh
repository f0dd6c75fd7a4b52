#!/bin/sh
# Reads the secrets that programs take from the environment alone out of the files NAME_FILE, and runs the command.
set -eu
for name in MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_TRACKING_PASSWORD PGPASSWORD; do
  eval "file=\${${name}_FILE:-}"
  if [ -n "$file" ]; then
    value=$(cat "$file")
    [ -n "$value" ] || { echo "$name: $file is empty" >&2; exit 1; }
    export "$name=$value"
  fi
done
exec "$@"
