// An echo and fan-out server on Gin and gorilla/websocket, in the manner of the articles on instant messaging in Go:
// a goroutine that reads and one that writes for each connection, and a hub that owns the list of them.
//
// /echo sends back what comes, /sub hears what is published, /pub publishes. Buffers, queue and deadlines are those of
// the library's own chat example.
package main

import (
	"flag"
	"log"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{
	ReadBufferSize:  1024,
	WriteBufferSize: 1024,
	CheckOrigin:     func(*http.Request) bool { return true },
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "ADDRESS:PORT")
	flag.Parse()
	hub := newHub()
	go hub.run()
	router := gin.New()
	router.Use(gin.Recovery())
	router.GET("/echo", upgraded(echo))
	router.GET("/sub", upgraded(func(socket *websocket.Conn) { hub.serve(socket, true) }))
	router.GET("/pub", upgraded(func(socket *websocket.Conn) { hub.serve(socket, false) }))
	log.Fatal(router.Run(*listen))
}

func upgraded(serve func(*websocket.Conn)) gin.HandlerFunc {
	return func(c *gin.Context) {
		socket, err := upgrader.Upgrade(c.Writer, c.Request, nil)
		if err != nil {
			return
		}
		serve(socket)
	}
}

// echo answers from the goroutine that reads: nothing else writes here.
func echo(socket *websocket.Conn) {
	defer socket.Close()
	for {
		kind, message, err := socket.ReadMessage()
		if err != nil {
			return
		}
		if err := socket.WriteMessage(kind, message); err != nil {
			return
		}
	}
}
