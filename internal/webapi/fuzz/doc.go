// Package fuzz holds the API's parsers against any input: bodies, headers, and the parameters and cursors of lists.
//
// It has fuzz targets only, and a package of its own, because a fuzz target instruments everything that the tests of
// its package link: beside the other tests of webapi, which link a validator of the document and a whole world, that
// takes minutes.
package fuzz
