package gateway

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Issuer signs and verifies the tokens of the local run. It stands in for the
// company's own identity provider.
type Issuer struct {
	key              *rsa.PrivateKey
	kid              string
	issuer, audience string
}

// GenerateKey returns a new signing key for NewIssuer, in PKCS #1.
func GenerateKey() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS1PrivateKey(key), nil
}

// NewIssuer takes the key, and the two values the authorizer asks for.
func NewIssuer(key []byte, issuer, audience string) (*Issuer, error) {
	k, err := x509.ParsePKCS1PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	sum := sha256.Sum256(x509.MarshalPKCS1PublicKey(&k.PublicKey))
	return &Issuer{key: k, kid: base64.RawURLEncoding.EncodeToString(sum[:9]), issuer: issuer, audience: audience}, nil
}

// Token returns a token for sub with the space-separated scopes, good for
// twelve hours of real time.
func (i *Issuer) Token(sub, scope string) (string, error) {
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": i.issuer, "aud": i.audience, "sub": sub, "scope": scope,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(12 * time.Hour).Unix(),
	})
	t.Header["kid"] = i.kid
	return t.SignedString(i.key)
}

// Handler serves OpenID Connect discovery and the key set, at the root.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": i.issuer, "jwks_uri": i.issuer + "/.well-known/jwks.json", "token_endpoint": i.issuer + "/token",
			"id_token_signing_alg_values_supported": []string{"RS256"}, "subject_types_supported": []string{"public"},
			"response_types_supported": []string{"token"},
		})
	})
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		encode := base64.RawURLEncoding.EncodeToString
		answer(w, map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": i.kid,
			"n": encode(i.key.N.Bytes()), "e": encode(big.NewInt(int64(i.key.E)).Bytes()),
		}}})
	})
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// verify checks an Authorization header and returns the claims as the gateway
// hands them on: all of them text.
func (i *Issuer) verify(header string) (map[string]string, error) {
	// API Gateway takes the token with or without the word Bearer.
	token := header
	if scheme, rest, ok := strings.Cut(header, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = rest
	}
	if token == "" {
		return nil, errors.New("no token")
	}
	claims := jwt.MapClaims{}
	_, err := jwt.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if t.Header["kid"] != i.kid {
			return nil, errors.New("unknown key")
		}
		return &i.key.PublicKey, nil
	}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(i.issuer), jwt.WithAudience(i.audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for k, v := range claims {
		if n, ok := v.(float64); ok {
			texts[k] = strconv.FormatFloat(n, 'f', -1, 64)
			continue
		}
		texts[k] = fmt.Sprint(v)
	}
	return texts, nil
}

// permits says whether the token has one of the scopes, if any are asked for.
func permits(claims map[string]string, scopes []string) bool {
	has := strings.Fields(claims["scope"] + " " + claims["scp"])
	return len(scopes) == 0 || slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(has, s) })
}
