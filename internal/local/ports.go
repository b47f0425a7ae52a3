package local

import (
	"math/rand/v2"
	"net"
	"strconv"
)

// FreePorts picks as many ports that are free, below the range from which the kernel gives ports to outgoing
// connections: one from that range could be in use by another process's connection when a killed run starts again.
func FreePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		l, err := listenBelow()
		if err != nil {
			return nil, err
		}
		defer l.Close() // once all are picked, so that none is picked twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func listenBelow() (l net.Listener, err error) {
	for range 20 {
		if l, err = net.Listen("tcp", ":"+strconv.Itoa(20_000+rand.IntN(12_000))); err == nil {
			return l, nil
		}
	}
	return nil, err
}
