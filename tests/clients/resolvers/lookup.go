// Looks names up by Go's own resolver: `NAME ADDRESS…` or `NAME error KIND` on a line each.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	for _, name := range os.Args[1:] {
		addresses, err := net.LookupHost(name)
		var failure *net.DNSError
		switch {
		case err == nil:
			fmt.Println(name, strings.Join(addresses, " "))
		case errors.As(err, &failure) && failure.IsNotFound:
			fmt.Println(name, "error not-found")
		default:
			fmt.Println(name, "error", err)
		}
	}
}
