package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

// The server's message files, msgs/<n>.blk of each stream, as its filestore.go writes
// them (2.15.2): one record after the other, each
//
//	length 4, sequence 8, time 8, length of the subject 2, subject,
//	[length of the headers 4, headers,] message, hash 8
//
// where the hash is over all but the lengths. The server reads them with trust: at a
// record that is damaged it cuts the file off, with every message behind it, now at the
// start and now when somebody asks for the message, or it counts up to a sequence that
// was never there until the memory is used up. So they are looked at before it starts.
const (
	recordHead    = 4 + 8 + 8 + 2
	recordHash    = 8
	leastRecord   = recordHead + recordHash
	largestRecord = 32 << 20 // as the server has it
	withHeaders   = 1 << 31  // in the length
	noMessage     = 1 << 63  // in the sequence: the record holds no message
	tombstone     = 1 << 62  // in the sequence: that message was deleted
	blockSuffix   = ".blk"
	// compressed is how a file begins that the server has compressed; ours are not.
	compressed = "cmp"
	// indexFile is what the server knows of a stream's files, made anew from them where
	// it is not there.
	indexFile = "index.db"
	// keptDir, in the data directory, has each file as it was before a damaged record
	// was taken out of it.
	keptDir = "ledgerline-damaged"
)

// damage is a part of a message file that holds no sound record.
type damage struct {
	stream, file string
	from, to     int64 // bytes of the file
	// after is the sequence of the last sound record before it, 0 for none in the file.
	after uint64
	// last is set where nothing sound follows in the file.
	last bool
}

func (d damage) String() string {
	return fmt.Sprintf("stream %s is damaged after message %d (%s, bytes %d to %d)", d.stream, d.after, d.file, d.from, d.to)
}

// checkBlocks looks at every message that the store in dir holds. Where one is damaged
// it is refused, as long as the store has a record of how far it had come: whoever
// removes that goes on without the damaged messages, and only without those.
func checkBlocks(dir string, streams []string, before map[string]highWater, log zerolog.Logger) error {
	if err := checkCutOff(dir, before); err != nil {
		return err
	}
	var found []damage
	for _, stream := range streams {
		in, err := damagedIn(dir, stream, before[stream])
		if err != nil {
			return err
		}
		found = append(found, in...)
	}
	if len(found) == 0 {
		return nil
	}
	if before != nil {
		more := ""
		if len(found) > 1 {
			more = fmt.Sprintf(", and %d more places", len(found)-1)
		}
		return fmt.Errorf("%w: %s: %w: %s%s: restore a backup, or remove %s to go on without what is damaged",
			ErrStore, dir, errLost, found[0], more, filepath.Join(dir, highWaterFileName))
	}
	for _, d := range found {
		kept, err := d.takeOut(dir)
		if err != nil {
			return fmt.Errorf("%w: take out what is damaged: %s: %w", ErrStore, d, err)
		}
		log.Error().Str("stream", d.stream).Uint64("after_message", d.after).Str("kept", kept).Msg(logevent.NATSDamageTakenOut)
	}
	return nil
}

// damagedIn looks at the files of one stream. The end of the last one is left to the
// server where the stream had not come as far: a power cut tears what was not
// acknowledged there.
func damagedIn(dir, stream string, mark highWater) ([]damage, error) {
	of := filepath.Join(dir, storeDirName, server.DEFAULT_GLOBAL_ACCOUNT, "streams", stream)
	folder := filepath.Join(of, "msgs")
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrDataDir, folder, err)
	}
	var numbers []uint64
	for _, entry := range entries {
		name, isBlock := strings.CutSuffix(entry.Name(), blockSuffix)
		if n, err := strconv.ParseUint(name, 10, 32); isBlock && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	var found []damage
	for i, n := range numbers {
		file := filepath.Join(folder, strconv.FormatUint(n, 10)+blockSuffix)
		content, err := os.ReadFile(file) // a few MB
		if err != nil {
			return nil, fmt.Errorf("%w: read %s: %w", ErrDataDir, file, err)
		}
		in, err := damagedRecords(content, stream, n)
		if err != nil {
			return nil, fmt.Errorf("%w: read %s: %w", ErrStore, file, err)
		}
		for _, d := range in {
			if d.last && i == len(numbers)-1 && (d.after >= mark.LastSeq || !mark.Created.Equal(created(of))) {
				break
			}
			d.stream, d.file = stream, file
			found = append(found, d)
		}
	}
	return found, nil
}

// created is when a stream was made, as its description says; zero where it says
// nothing, which the server refuses.
func created(folder string) time.Time {
	var description struct {
		Created time.Time `json:"created"`
	}
	content, err := os.ReadFile(filepath.Join(folder, server.JetStreamMetaFile))
	if err == nil {
		err = json.Unmarshal(content, &description)
	}
	if err != nil {
		return time.Time{}
	}
	return description.Created
}

// damagedRecords are the parts of a file without a sound record.
func damagedRecords(content []byte, stream string, number uint64) (found []damage, err error) {
	if bytes.HasPrefix(content, []byte(compressed)) {
		return nil, nil
	}
	sum, err := blockHash(stream, number)
	if err != nil {
		return nil, err
	}
	var last uint64
	for at := 0; at < len(content); {
		if length, sequence, sound := record(content[at:], sum); sound {
			last = max(last, sequence&^(noMessage|tombstone))
			at += length
			continue
		}
		from := at
		for at++; at < len(content); at++ {
			if _, _, sound := record(content[at:], sum); sound {
				break
			}
		}
		found = append(found, damage{from: int64(from), to: int64(at), after: last, last: at == len(content)})
	}
	return found, nil
}

// record reads what content begins with; sound says that it is one as it was written.
func record(content []byte, sum hash.Hash) (length int, sequence uint64, sound bool) {
	if len(content) < leastRecord {
		return 0, 0, false
	}
	whole, subject := binary.LittleEndian.Uint32(content), int(binary.LittleEndian.Uint16(content[recordHead-2:]))
	length = int(whole &^ withHeaders)
	if length < leastRecord || length > largestRecord || length > len(content) {
		return 0, 0, false
	}
	data := content[recordHead : length-recordHash]
	rest := subject
	if whole&withHeaders != 0 {
		rest += 4
	}
	if rest > len(data) || whole&withHeaders != 0 && !headers(data[subject:]) {
		return 0, 0, false
	}
	sum.Reset()
	for _, part := range [][]byte{content[4 : recordHead-2], data[:subject], data[rest:]} {
		sum.Write(part) //nolint:errcheck // hash.Hash: it never returns an error
	}
	return length, binary.LittleEndian.Uint64(content[4:]), bytes.Equal(sum.Sum(nil), content[length-recordHash:length])
}

// headers tells whether a record's headers end where their length, which is not in the
// hash, says.
func headers(data []byte) bool {
	length := uint64(binary.LittleEndian.Uint32(data))
	if length > uint64(len(data)-4) {
		return false
	}
	end := bytes.Index(data[4:], []byte("\r\n\r\n"))
	return end >= 0 && uint64(end+4) == length
}

// blockHash is the hash of the records of a stream's file.
func blockHash(stream string, number uint64) (hash.Hash, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, number))
	return highwayhash.New64(key[:])
}

// takeOut writes a record without a message over the damage, as the server does over
// what it erases, and has the server read the file anew. The file as it was is kept in
// the data directory, at the path that it returns.
func (d damage) takeOut(dir string) (kept string, err error) {
	content, err := os.ReadFile(d.file)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, keptDir), dirPerm); err != nil {
		return "", err
	}
	name := strings.TrimSuffix(filepath.Base(d.file), blockSuffix)
	kept = filepath.Join(dir, keptDir, fmt.Sprintf("%s-%s-%s%s", d.stream, name, time.Now().UTC().Format("20060102T150405.000000000"), blockSuffix))
	if err := writeSynced(kept, content); err != nil {
		return "", err
	}
	number, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return "", err
	}
	if err := d.overwrite(number); err != nil {
		return "", err
	}
	if err := os.Remove(filepath.Join(filepath.Dir(d.file), indexFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return kept, nil
}

func (d damage) overwrite(number uint64) (err error) {
	file, err := os.OpenFile(d.file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if d.to-d.from < leastRecord {
		// Only at the end of a file: between two records there was one.
		if err := file.Truncate(d.from); err != nil {
			return err
		}
		return file.Sync()
	}
	sum, err := blockHash(d.stream, number)
	if err != nil {
		return err
	}
	empty := make([]byte, d.to-d.from)
	binary.LittleEndian.PutUint32(empty, uint32(len(empty)))
	binary.LittleEndian.PutUint64(empty[4:], noMessage)
	data := empty[:len(empty)-recordHash]
	sum.Write(data[4 : recordHead-2]) //nolint:errcheck // hash.Hash: it never returns an error
	sum.Write(data[recordHead:])      //nolint:errcheck // the same
	copy(empty[len(data):], sum.Sum(nil))
	if _, err := file.WriteAt(empty, d.from); err != nil {
		return err
	}
	return file.Sync()
}

// writeSynced writes a file that was not there, and syncs it.
func writeSynced(path string, content []byte) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.Sync()
}
