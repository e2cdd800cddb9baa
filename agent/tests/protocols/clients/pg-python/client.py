"""psycopg: what every PostgreSQL client of these tests does, and a pipeline."""
import sys, threading
import psycopg

dsn = sys.argv[1]
with psycopg.connect(dsn, autocommit=True) as conn:
    conn.execute("INSERT INTO songs (id, title) VALUES (%s, %s)", (100, "secret"))
    conn.execute("UPDATE songs SET title = 'secret' WHERE id = 100")
    for n in range(10):  # the sixth time, it is prepared
        conn.execute("SELECT id, title FROM songs WHERE id = %s", (1 + n % 3,)).fetchall()
    try:
        conn.execute("SELECT secret FROM nowhere")
    except psycopg.errors.UndefinedTable:
        pass
    conn.execute("SELECT id FROM numbers").fetchall()
    with conn.pipeline():
        for n in range(20):
            conn.execute("SELECT title FROM songs WHERE id = %s", (1 + n % 3,))
    with conn.cursor() as cursor:
        with cursor.copy("COPY songs (id, title) FROM STDIN") as copy:
            for n in range(1000):
                copy.write_row((1000 + n, "secret" * 20))
        with cursor.copy("COPY songs TO STDOUT") as copy:
            rows = sum(1 for _ in copy.rows())
            assert rows == 1004, rows


def work():
    with psycopg.connect(dsn, autocommit=True) as conn:
        for n in range(25):
            conn.execute("SELECT count(*) FROM songs WHERE id < %s", (n,)).fetchall()


threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
