from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]
