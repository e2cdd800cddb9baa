"""PyMySQL: texts with their values inside, several statements at once, and threads."""
import sys, threading
import pymysql
from pymysql.constants import CLIENT

port = int(sys.argv[1])


def connect(**more):
    return pymysql.connect(host="127.0.0.1", port=port, user="ada", password="secret", database="shop", autocommit=True, **more)


conn = connect(client_flag=CLIENT.MULTI_STATEMENTS)
with conn.cursor() as cursor:
    cursor.execute("INSERT INTO songs (id, title) VALUES (%s, %s)", (100, "secret"))
    cursor.execute('UPDATE songs SET title = "secret" WHERE id = 100')
    for n in range(10):
        cursor.execute("SELECT id, title FROM songs WHERE id = %s", (1 + n % 3,))
    try:
        cursor.execute("SELECT secret FROM nowhere")
    except pymysql.err.ProgrammingError:
        pass
    cursor.execute("SELECT id FROM numbers")
    assert len(cursor.fetchall()) == 20000
    cursor.execute("SELECT id FROM songs WHERE id = 1; UPDATE songs SET title = 'x' WHERE id = 1; SELECT 'secret'")
    while cursor.nextset():
        pass
conn.ping(reconnect=False)
conn.close()


def work():
    conn = connect()
    with conn.cursor() as cursor:
        for n in range(25):
            cursor.execute("SELECT count(*) FROM songs WHERE id < %s", (n,))
    conn.close()


threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
