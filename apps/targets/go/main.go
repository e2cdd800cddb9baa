// Test target: net/http from the standard library, one goroutine a connection, no instrumentation.
// Usage: go-target PORT (or PORT in the environment; 0 picks a free one). Endpoints: see ../README.md.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	port := os.Getenv("PORT")
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(route)))
}

// route answers by the first path segment: a further segment is ignored, so that a test can make each path unique.
func route(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	argument := ""
	if len(parts) > 1 {
		argument = parts[1]
	}
	switch parts[0] {
	case "", "*":
		text(w, "hello\n")
	case "hello":
		text(w, "hello "+argument+"\n")
	case "users":
		w.Header().Set("Content-Type", "application/json")
		text(w, fmt.Sprintf("{\"id\":%q}\n", argument))
	case "work":
		work(time.Duration(number(r, "us", 100)) * time.Microsecond)
		text(w, "worked\n")
	case "echo":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		text(w, string(body))
	case "status":
		status(w, argument)
	case "chunked":
		pieces(w, number(r, "n", 4), strings.Repeat("x", 1024), 0)
	case "sse":
		w.Header().Set("Content-Type", "text/event-stream")
		pieces(w, number(r, "n", 5), "data: tick\n\n", 2*time.Millisecond)
	case "big":
		big(w, int64(number(r, "mb", 1))<<20)
	case "call":
		call(w, r.URL.Query().Get("url"))
	case "slow":
		time.Sleep(time.Duration(number(r, "ms", 10)) * time.Millisecond)
		text(w, "slept\n")
	default:
		w.WriteHeader(http.StatusNotFound)
		text(w, "not found\n")
	}
}

func number(r *http.Request, key string, fallback int) int {
	if n, err := strconv.Atoi(r.URL.Query().Get(key)); err == nil {
		return n
	}
	return fallback
}

func text(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	io.WriteString(w, body)
}

func status(w http.ResponseWriter, argument string) {
	code, err := strconv.Atoi(argument)
	if err != nil || code < 200 || code > 599 {
		code = http.StatusBadRequest
	}
	if code == http.StatusNoContent || code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	body := fmt.Sprintf("status %d\n", code)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	io.WriteString(w, body)
}

// work keeps a CPU busy: the cost of a handler, not of a sleep.
func work(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
	}
}

func pieces(w http.ResponseWriter, n int, piece string, pause time.Duration) {
	for i := 0; i < n; i++ {
		if _, err := io.WriteString(w, piece); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		time.Sleep(pause)
	}
}

// big copies from a file, so that net/http uses sendfile.
func big(w http.ResponseWriter, size int64) {
	file, err := os.CreateTemp("", "skep-target-")
	if err != nil {
		panic(err)
	}
	defer file.Close()
	os.Remove(file.Name())
	if err := file.Truncate(size); err != nil {
		panic(err)
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	io.Copy(w, file)
}

func call(w http.ResponseWriter, url string) {
	response, err := http.Get(url)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		text(w, err.Error()+"\n")
		return
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	text(w, fmt.Sprintf("called %d\n", response.StatusCode))
}
