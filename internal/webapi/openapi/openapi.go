// Package openapi holds the document of the HTTP API. It is a package of its own so that only what shows or checks the
// document carries it, and no function does.
package openapi

import _ "embed"

// Document is the OpenAPI 3.1 document, in YAML.
//
//go:embed openapi.yaml
var Document []byte
