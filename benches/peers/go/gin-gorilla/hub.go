package main

import (
	"time"

	"github.com/gorilla/websocket"
)

const (
	writeWait  = 10 * time.Second
	pongWait   = 60 * time.Second
	pingPeriod = pongWait * 9 / 10
	// Messages that a client may be behind before it is cut.
	behindMax = 256
)

// client is one connection: its reader runs in the handler's goroutine, its writer in one of its own.
type client struct {
	hub    *hub
	socket *websocket.Conn
	send   chan []byte
}

// hub knows every client. Only its goroutine touches the map.
type hub struct {
	clients    map[*client]bool
	register   chan *client
	unregister chan *client
	broadcast  chan []byte
}

func newHub() *hub {
	return &hub{
		clients:    make(map[*client]bool),
		register:   make(chan *client),
		unregister: make(chan *client),
		broadcast:  make(chan []byte, behindMax),
	}
}

func (h *hub) run() {
	for {
		select {
		case one := <-h.register:
			h.clients[one] = true
		case one := <-h.unregister:
			h.remove(one)
		case message := <-h.broadcast:
			for one := range h.clients {
				select {
				case one.send <- message:
				default:
					h.remove(one)
				}
			}
		}
	}
}

func (h *hub) remove(one *client) {
	if h.clients[one] {
		delete(h.clients, one)
		close(one.send)
	}
}

// serve reads until the connection ends. A publisher hears nothing of what is published.
func (h *hub) serve(socket *websocket.Conn, subscriber bool) {
	one := &client{hub: h, socket: socket, send: make(chan []byte, behindMax)}
	if subscriber {
		h.register <- one
	}
	go one.write()
	one.read()
	if subscriber {
		h.unregister <- one
	} else {
		close(one.send)
	}
}

func (c *client) read() {
	defer c.socket.Close()
	_ = c.socket.SetReadDeadline(time.Now().Add(pongWait))
	c.socket.SetPongHandler(func(string) error { return c.socket.SetReadDeadline(time.Now().Add(pongWait)) })
	for {
		_, message, err := c.socket.ReadMessage()
		if err != nil {
			return
		}
		c.hub.broadcast <- message
	}
}

func (c *client) write() {
	ticker := time.NewTicker(pingPeriod)
	defer func() {
		ticker.Stop()
		c.socket.Close()
	}()
	for {
		kind, message := websocket.TextMessage, []byte(nil)
		select {
		case next, open := <-c.send:
			if !open {
				return
			}
			message = next
		case <-ticker.C:
			kind = websocket.PingMessage
		}
		_ = c.socket.SetWriteDeadline(time.Now().Add(writeWait))
		if err := c.socket.WriteMessage(kind, message); err != nil {
			return
		}
	}
}
