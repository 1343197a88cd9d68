"""The SQL database: connection, tables, migrations, transactions and the writer."""
