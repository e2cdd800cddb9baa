// Looks names up with Go's own resolver.
package main

import (
	"context"
	"fmt"
	"net"
)

func main() {
	resolver := &net.Resolver{PreferGo: true}
	addresses, _ := resolver.LookupHost(context.Background(), "a.skep.test.")
	fmt.Println(addresses)
	_, _ = resolver.LookupHost(context.Background(), "none.skep.test.")
}
