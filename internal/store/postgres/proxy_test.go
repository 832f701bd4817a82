package postgres_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// A proxy stands between a store and its server, and cuts connections.
type proxy struct {
	listener net.Listener
	server   string
	running  sync.WaitGroup

	mu    sync.Mutex
	fault fault
	conns map[net.Conn]bool
}

// A fault is what happens, once, to what a store sends next.
type fault int

const (
	none         fault = iota
	requestLost        // the connection is cut before it reaches the server
	responseLost       // the connection is cut when the server has done it and answers
)

// mustProxy returns a proxy, and the URL of a database through it.
func mustProxy(t *testing.T, database string) (p *proxy, through string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	p = &proxy{server: u.Host, conns: make(map[net.Conn]bool)}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = p.listener.Addr().String()
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p, u.String()
}

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	for conn := range p.conns {
		conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *proxy) arm(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

func (p *proxy) disarm() fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.fault
	p.fault = none
	return f
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.forward(client, server)
	}
}

func (p *proxy) forward(client, server net.Conn) {
	cut := func() {
		client.Close()
		server.Close()
	}
	var mu sync.Mutex
	swallow := false // what the server says next
	p.running.Go(func() {
		defer cut()
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			switch p.disarm() {
			case requestLost:
				return
			case responseLost:
				mu.Lock()
				swallow = true
				mu.Unlock()
			}
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	p.running.Go(func() {
		defer cut()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer) // it speaks when it has done the whole, commit included
			if err != nil {
				return
			}
			mu.Lock()
			lost := swallow
			mu.Unlock()
			if lost {
				return
			}
			if _, err := io.Writer(client).Write(buffer[:n]); err != nil {
				return
			}
		}
	})
}
