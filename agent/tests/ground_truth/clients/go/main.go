// Ground-truth client: a line of JSON on stdin is one request, a line on stdout is what came of it.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
)

type plan struct {
	ID      int               `json:"id"`
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    int               `json:"body"`
}

func main() {
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var p plan
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			panic(err)
		}
		slots <- struct{}{}
		all.Add(1)
		go func() {
			defer func() { <-slots; all.Done() }()
			fetch(p)
		}()
	}
	all.Wait()
}

func fetch(p plan) {
	var body io.Reader
	if p.Body > 0 {
		body = strings.NewReader(strings.Repeat("b", p.Body))
	}
	request, err := http.NewRequest(p.Method, p.URL, body)
	if err != nil {
		panic(err)
	}
	for name, value := range p.Headers {
		request.Header.Set(name, value)
	}
	port := 0
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		port = info.Conn.LocalAddr().(*net.TCPAddr).Port
	}}
	response, err := http.DefaultClient.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	if err != nil {
		panic(err)
	}
	received, _ := io.Copy(io.Discard, response.Body)
	response.Body.Close()
	line, _ := json.Marshal(map[string]any{
		"id": p.ID, "status": response.StatusCode, "received": received, "local_port": port,
	})
	fmt.Println(string(line))
}
