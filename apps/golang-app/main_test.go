package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

// users stands for users-app: user 2 exists, user 3 makes it fail.
func users(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/users/2":
		answer(w, http.StatusOK, map[string]any{"id": 2, "name": "vasya"})
	default:
		answer(w, http.StatusServiceUnavailable, map[string]string{"detail": "no database"})
	}
}

func get(t *testing.T, url string, into any) int {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if into != nil {
		if err := json.NewDecoder(response.Body).Decode(into); err != nil {
			t.Fatalf("%s: %v", url, err)
		}
	}
	return response.StatusCode
}

func TestAnswers(t *testing.T) {
	behind := httptest.NewServer(http.HandlerFunc(users))
	defer behind.Close()
	app := server{usersURL: behind.URL}
	web := httptest.NewServer(app.routes())
	defer web.Close()

	var list []album
	if status := get(t, web.URL+"/albums", &list); status != http.StatusOK || len(list) != 3 || list[1].Title != "Jeru" {
		t.Errorf("/albums: %d %v", status, list)
	}
	var owner map[string]any
	if status := get(t, web.URL+"/albums/2/owner", &owner); status != http.StatusOK || owner["name"] != "vasya" {
		t.Errorf("/albums/2/owner: %d %v", status, owner)
	}
	for path, expected := range map[string]int{
		"/albums/3/owner": http.StatusServiceUnavailable,
		"/albums/9/owner": http.StatusNotFound,
		"/healthz":        http.StatusOK,
		"/readyz":         http.StatusOK,
		"/nope":           http.StatusNotFound,
	} {
		if status := get(t, web.URL+path, nil); status != expected {
			t.Errorf("%s: %d, not %d", path, status, expected)
		}
	}
	behind.Close()
	if status := get(t, web.URL+"/albums/2/owner", nil); status != http.StatusBadGateway {
		t.Errorf("users-app is gone: %d, not 502", status)
	}
}
