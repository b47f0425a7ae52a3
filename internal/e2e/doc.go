// Package e2e holds the tests of the assembled whole, and nothing else. They build the program behind make run, start
// it as a process of its own with the real functions, the real database engine and the template, and know it only by
// what anybody can reach: the HTTP API, the world's JSON, its exit and its processes.
//
// What one package can show by itself is tested there: here is what only shows when everything runs together, such as a
// kill between a provider's effect and its answer.
package e2e
