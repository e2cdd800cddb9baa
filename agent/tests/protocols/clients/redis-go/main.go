// Steps of commands with go-redis: port, steps as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"
)

func main() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[1], DisableIndentity: false})
	var steps [][]json.RawMessage
	if err := json.Unmarshal([]byte(os.Args[2]), &steps); err != nil {
		panic(err)
	}
	ctx := context.Background()
	for _, step := range steps {
		var how string
		var commands [][]any
		if json.Unmarshal(step[0], &how) != nil || json.Unmarshal(step[1], &commands) != nil {
			panic("steps")
		}
		switch how {
		case "one":
			for _, words := range commands {
				client.Do(ctx, words...)
			}
		default:
			pipeline := client.Pipeline()
			if how == "multi" {
				pipeline = client.TxPipeline()
			}
			for _, words := range commands {
				pipeline.Do(ctx, words...)
			}
			_, _ = pipeline.Exec(ctx)
		}
	}
	_ = client.Close()
	fmt.Println("done")
}
