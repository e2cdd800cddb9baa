// pgx: what every PostgreSQL client of these tests does, with a batch and a pool.
package main

import (
	"context"
	"log"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, os.Args[1])
	must(err)
	_, err = conn.Exec(ctx, "INSERT INTO songs (id, title) VALUES ($1, $2)", 100, "secret")
	must(err)
	_, err = conn.Exec(ctx, "UPDATE songs SET title = 'secret' WHERE id = 100")
	must(err)
	for n := range 10 {
		var id int
		var title string
		must(conn.QueryRow(ctx, "SELECT id, title FROM songs WHERE id = $1", 1+n%3).Scan(&id, &title))
	}
	if _, err = conn.Exec(ctx, "SELECT secret FROM nowhere"); err == nil {
		log.Fatal("nowhere is there")
	}
	rows, err := conn.Query(ctx, "SELECT id FROM numbers")
	must(err)
	for rows.Next() {
	}
	must(rows.Err())
	batch := &pgx.Batch{}
	for n := range 20 {
		batch.Queue("SELECT title FROM songs WHERE id = $1", 1+n%3)
	}
	must(conn.SendBatch(ctx, batch).Close())
	must(conn.Ping(ctx))
	must(conn.Close(ctx))

	pool, err := pgxpool.New(ctx, os.Args[1]+"&pool_max_conns=4")
	must(err)
	var wait sync.WaitGroup
	for n := range 100 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			var count int
			must(pool.QueryRow(ctx, "SELECT count(*) FROM songs WHERE id < $1", n).Scan(&count))
		}()
	}
	wait.Wait()
	pool.Close()
}
