// Package e2e holds the tests of the assembled whole, and nothing else. They build the program behind make run and
// start it as a process of its own, with the real functions, the real database engine and the template. They look at it
// only from outside: through the HTTP API, the JSON of the simulated world, the exit status and the list of processes.
//
// What one package can show by itself is tested in that package. Here belongs what shows only when everything runs
// together, such as a run that is killed after the provider has acted and before its answer arrives.
package e2e
