// The event-loop variant of gin-gorilla: the same routes on Gin, served by nbio, whose one poller reads into one buffer,
// parses, and runs the handlers on the poller. No connection has a goroutine or a buffer of its own while it is idle.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/gin-gonic/gin"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

// More than any run opens; the library's own bound is 10,000.
const connectionsMax = 1_000_000

// room holds every subscriber. The poller and a closing connection may meet here.
type room struct {
	mutex sync.Mutex
	all   map[*websocket.Conn]struct{}
}

func (r *room) enter(socket *websocket.Conn) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.all[socket] = struct{}{}
}

func (r *room) leave(socket *websocket.Conn) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.all, socket)
}

// publish writes to each socket at once; what a socket does not take the library keeps and writes later.
func (r *room) publish(message []byte) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for socket := range r.all {
		_ = socket.WriteMessage(websocket.TextMessage, message)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "ADDRESS:PORT")
	flag.Parse()
	subscribers := &room{all: make(map[*websocket.Conn]struct{})}
	router := gin.New()
	router.Use(gin.Recovery())
	router.GET("/echo", upgraded(func(u *websocket.Upgrader) {
		u.OnMessage(func(socket *websocket.Conn, kind websocket.MessageType, message []byte) {
			_ = socket.WriteMessage(kind, message)
		})
	}))
	router.GET("/sub", upgraded(func(u *websocket.Upgrader) {
		u.OnOpen(subscribers.enter)
		u.OnClose(func(socket *websocket.Conn, _ error) { subscribers.leave(socket) })
	}))
	router.GET("/pub", upgraded(func(u *websocket.Upgrader) {
		u.OnMessage(func(_ *websocket.Conn, _ websocket.MessageType, message []byte) { subscribers.publish(message) })
	}))
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp",
		Addrs:   []string{*listen},
		Handler: router,
		NPoller: 1,
		MaxLoad: connectionsMax,
		// Handlers run in the poller: without this each event goes through a pool of goroutines.
		ServerExecutor:          func(work func()) { work() },
		ReleaseWebsocketPayload: true,
		// A message is one frame, as with the other servers.
		MaxWebsocketFramePayloadSize: 1 << 20,
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
	engine.Stop()
}

func upgraded(prepare func(*websocket.Upgrader)) gin.HandlerFunc {
	upgrader := websocket.NewUpgrader()
	upgrader.CheckOrigin = func(*http.Request) bool { return true }
	// Idle connections stay: what is measured decides when they end.
	upgrader.KeepaliveTime = 0
	prepare(upgrader)
	return func(c *gin.Context) {
		_, _ = upgrader.Upgrade(c.Writer, c.Request, nil)
	}
}
