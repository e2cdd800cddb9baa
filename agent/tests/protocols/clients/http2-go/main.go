// HTTP/2 in clear text with Go's standard library: `server ADDR`, or `client URL COUNT AT_ONCE`.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
)

func main() {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	if os.Args[1] == "server" {
		mux := http.NewServeMux()
		mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
			w.Header().Set("X-Sum", strconv.Itoa(len(body)))
		})
		mux.HandleFunc("/missing", http.NotFound)
		server := http.Server{Addr: os.Args[2], Handler: mux, Protocols: protocols,
			HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000}}
		log.Fatal(server.ListenAndServe())
	}
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	count, _ := strconv.Atoi(os.Args[3])
	atOnce, _ := strconv.Atoi(os.Args[4])
	turns := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for turn := range turns {
				call(&client, turn)
			}
		}()
	}
	for turn := range count {
		turns <- turn
	}
	close(turns)
	workers.Wait()
	fmt.Println("done")
}

// Every third request finds nothing, the others send a body and read it back.
func call(client *http.Client, turn int) {
	var response *http.Response
	var err error
	if turn%3 == 0 {
		response, err = client.Get(os.Args[2] + "/missing")
	} else {
		body := strings.NewReader(strings.Repeat("x", turn%5*1000))
		response, err = client.Post(os.Args[2]+"/echo", "text/plain", body)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || (turn%3 != 0 && len(body) != turn%5*1000) {
		log.Fatal(turn, len(body), err)
	}
}
