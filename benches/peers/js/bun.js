// An echo and fan-out server on Bun.serve, whose WebSockets and topics are those of uWebSockets, as its manual writes them.
//
// /echo sends back what comes, /sub hears what is published, /pub publishes. Run: bun bun.js PORT

const TOPIC = "load";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (server.upgrade(request, { data: pathname })) {
      return undefined;
    }
    return new Response("a WebSocket is expected", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    // 0: idle connections stay.
    idleTimeout: 0,
    open(socket) {
      if (socket.data === "/sub") {
        socket.subscribe(TOPIC);
      }
    },
    message(socket, message) {
      if (socket.data === "/echo") {
        socket.send(message);
      } else if (socket.data === "/pub") {
        server.publish(TOPIC, message);
      }
    },
  },
});
