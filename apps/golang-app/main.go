// golang-app serves three albums. It uses the standard library only and holds not one line of telemetry: what is known
// of it, Skep sees from outside.
//
// Variables: LISTEN (:8002), USERS_URL (http://localhost:8000).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type album struct {
	ID     string  `json:"id"`
	Title  string  `json:"title"`
	Artist string  `json:"artist"`
	Price  float64 `json:"price"`
	owner  int
}

var albums = []album{
	{ID: "1", Title: "Blue Train", Artist: "John Coltrane", Price: 56.99, owner: 1},
	{ID: "2", Title: "Jeru", Artist: "Gerry Mulligan", Price: 17.99, owner: 2},
	{ID: "3", Title: "Sarah Vaughan and Clifford Brown", Artist: "Sarah Vaughan", Price: 39.99, owner: 3},
}

// The longest answer of users-app that is read.
const maxAnswer = 1 << 20

type server struct {
	usersURL string
	client   http.Client
}

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err := run(); err != nil {
		slog.Error("golang-app ends", "error", err)
		os.Exit(1)
	}
}

func run() error {
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	app := server{
		usersURL: variable("USERS_URL", "http://localhost:8000"),
		client:   http.Client{Timeout: 30 * time.Second},
	}
	listener, err := net.Listen("tcp", variable("LISTEN", ":8002"))
	if err != nil {
		return err
	}
	slog.Info("golang-app listens", "address", listener.Addr().String())
	web := http.Server{Handler: app.routes(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-stop.Done():
	}
	patience, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := web.Shutdown(patience); err != nil {
		return fmt.Errorf("wait for the last requests: %w", err)
	}
	return nil
}

func (app *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /albums", logged(app.list))
	mux.HandleFunc("GET /albums/{id}/owner", logged(app.owner))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ready\n") })
	return mux
}

// logged writes one line a request. The header is what came over the wire: nothing here understands it.
func logged(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		slog.Info("request", "method", r.Method, "path", r.URL.Path, "traceparent", r.Header.Get("traceparent"))
		next(w, r)
	}
}

func (app *server) list(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, albums)
}

// owner asks users-app who owns an album.
func (app *server) owner(w http.ResponseWriter, r *http.Request) {
	for _, album := range albums {
		if album.ID == r.PathValue("id") {
			app.passOn(w, r, fmt.Sprintf("%s/users/%d", app.usersURL, album.owner))
			return
		}
	}
	answer(w, http.StatusNotFound, map[string]string{"detail": "there is no such album"})
}

func (app *server) passOn(w http.ResponseWriter, r *http.Request, url string) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, nil)
	if err != nil {
		answer(w, http.StatusInternalServerError, map[string]string{"detail": err.Error()})
		return
	}
	response, err := app.client.Do(request)
	if err != nil {
		slog.Error("users-app cannot be reached", "error", err)
		status := http.StatusBadGateway
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			status = http.StatusGatewayTimeout
		}
		answer(w, status, map[string]string{"detail": "users-app did not answer"})
		return
	}
	defer response.Body.Close()
	w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
	w.WriteHeader(response.StatusCode)
	if _, err := io.Copy(w, io.LimitReader(response.Body, maxAnswer)); err != nil {
		slog.Error("the answer of users-app broke off", "error", err)
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Error("the client is gone", "error", err)
	}
}

func variable(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
