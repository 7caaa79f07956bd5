// A backend of Go's stock server that writes a line of JSON for each request: `recorder HOST:PORT FILE`.
// `…/early` is answered before its body is read; anything else once the body is whole.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

func main() {
	file, err := os.OpenFile(os.Args[2], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	var lock sync.Mutex
	record := func(request *http.Request, body []byte) {
		headers := [][2]string{{"host", request.Host}}
		for name, values := range request.Header {
			for _, value := range values {
				headers = append(headers, [2]string{name, value})
			}
		}
		text := make([]rune, len(body))
		for n, b := range body {
			text[n] = rune(b)
		}
		line, _ := json.Marshal(map[string]any{
			"method": request.Method, "target": request.RequestURI, "headers": headers, "body": string(text),
		})
		lock.Lock()
		defer lock.Unlock()
		fmt.Fprintf(file, "%s\n", line)
	}
	handler := func(response http.ResponseWriter, request *http.Request) {
		if strings.HasSuffix(request.URL.Path, "/early") {
			record(request, nil)
			response.Header().Set("content-length", "5")
			response.WriteHeader(401)
			io.WriteString(response, "early")
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		record(request, body)
		io.WriteString(response, "whole")
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	log.Fatal(http.Serve(listener, http.HandlerFunc(handler)))
}
