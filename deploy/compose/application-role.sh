# Runs once, when Postgres makes its data: the role of web, worker and scheduler, which does not own the tables.
# Postgres' image reads it into its own shell, which stops at the first error.
psql --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set=password="$(cat /run/secrets/postgres_app_password)" <<'SQL'
CREATE ROLE refund_worker_app LOGIN PASSWORD :'password';
SQL
