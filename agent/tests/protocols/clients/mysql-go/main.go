// go-sql-driver: prepared statements and a pool.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"sync"

	_ "github.com/go-sql-driver/mysql"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	dsn := fmt.Sprintf("ada:secret@tcp(127.0.0.1:%s)/shop", os.Args[1])
	db, err := sql.Open("mysql", dsn)
	must(err)
	db.SetMaxOpenConns(1)
	must(db.Ping())
	_, err = db.Exec("INSERT INTO songs (id, title) VALUES (?, ?)", 100, "secret")
	must(err)
	_, err = db.Exec("UPDATE songs SET title = 'secret' WHERE id = 100")
	must(err)
	byId, err := db.Prepare("SELECT id, title FROM songs WHERE id = ?")
	must(err)
	for n := range 10 {
		var id int
		var title string
		must(byId.QueryRow(1+n%3).Scan(&id, &title))
	}
	byId.Close()
	if _, err = db.Exec("SELECT secret FROM nowhere"); err == nil {
		log.Fatal("nowhere is there")
	}
	rows, err := db.Query("SELECT id FROM numbers")
	must(err)
	for rows.Next() {
	}
	must(rows.Err())
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	var wait sync.WaitGroup
	for n := range 100 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			var count int
			must(db.QueryRow("SELECT count(*) FROM songs WHERE id < ?", n).Scan(&count))
		}()
	}
	wait.Wait()
	db.Close()
}
