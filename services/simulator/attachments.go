package simulator

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// fileToken is the last path segment of a file link.
func fileToken(seed uint64, entry uuid.UUID, n int, expires int64) string {
	name := entry.String() + "." + strconv.Itoa(n) + "." + strconv.FormatInt(expires, 10)
	return name + "." + fmt.Sprintf("%016x", hash(seed, "file", name))
}

// servedFileBytes is the size of every served file; the sizes that items name are
// made up.
const servedFileBytes = 2048

// serveFile is GET /files/{token}, the target of file links when
// Config.FileBaseURL points here. After 24 hours a link is dead: 410.
func (s *Simulator) serveFile(c *call) answer {
	token := c.r.PathValue("token")
	parts := strings.Split(token, ".")
	if len(parts) != 4 {
		return unknownPath(c)
	}
	entry, ok := parseID(parts[0])
	n, nErr := strconv.Atoi(parts[1])
	expires, expiresErr := strconv.ParseInt(parts[2], 10, 64)
	if !ok || nErr != nil || expiresErr != nil || fileToken(s.cfg.Seed, entry, n, expires) != token {
		return unknownPath(c)
	}
	if s.now().Unix() >= expires {
		return refuse(http.StatusGone, typeNotFound, "The link has expired.")
	}
	return answer{
		status: http.StatusOK, contentType: "application/octet-stream",
		body: bytes.Repeat([]byte(entry.String()+"\n"), servedFileBytes/37)[:servedFileBytes/37*37],
	}
}
