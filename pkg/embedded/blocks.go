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
	number       uint64 // of the file
	from, to     int64  // bytes of it
	// after is the highest sequence before it in the stream, 0 for none.
	after uint64
	// end is set where no message follows in the stream.
	end bool
	// last is the sequence that the stream had come to, as far as it is known.
	last uint64
}

func (d damage) String() string {
	return fmt.Sprintf("stream %s is damaged after message %d (%s, bytes %d to %d)", d.stream, d.after, d.file, d.from, d.to)
}

// checkBlocks looks at every message that the store in dir holds, before a server opens
// it. What is damaged is refused, and nothing changed, or taken out where a person has
// accepted its loss.
func checkBlocks(dir string, streams []string, before map[string]highWater, accepted bool, log zerolog.Logger) error {
	if err := checkCutOff(dir, before, accepted); err != nil {
		return err
	}
	var found []damage
	for _, stream := range streams {
		in, err := damagedIn(dir, stream, before[stream], accepted)
		if err != nil {
			return err
		}
		found = append(found, in...)
	}
	if len(found) == 0 {
		return nil
	}
	if !accepted {
		more := ""
		if len(found) > 1 {
			more = fmt.Sprintf(", and %d more places", len(found)-1)
		}
		return fmt.Errorf("%w: %s: %w: %s%s: %s", ErrStore, dir, errLost, found[0], more, wayOut(dir))
	}
	kept := map[string]string{}
	for _, d := range found {
		if kept[d.file] == "" {
			to, err := keep(dir, d)
			if err != nil {
				return fmt.Errorf("%w: keep %s as it is: %w", ErrStore, d.file, err)
			}
			kept[d.file] = to
		}
		if err := d.takeOut(); err != nil {
			return fmt.Errorf("%w: take out what is damaged: %s: %w", ErrStore, d, err)
		}
		log.Error().Str("stream", d.stream).Uint64("after_message", d.after).Str("kept", kept[d.file]).Msg(logevent.NATSDamageTakenOut)
	}
	return nil
}

// damagedIn looks at the files of one stream. The end of it is left to the server where
// nothing that was acknowledged can have been there: a power cut tears what is written
// at that moment.
func damagedIn(dir, stream string, mark highWater, accepted bool) ([]damage, error) {
	of := filepath.Join(dir, storeDirName, server.DEFAULT_GLOBAL_ACCOUNT, "streams", stream)
	folder := filepath.Join(of, "msgs")
	numbers, err := blockNumbers(folder)
	if err != nil {
		return nil, err
	}
	if !mark.Created.Equal(created(of)) {
		mark = highWater{} // of another stream of that name
	}
	var (
		found []damage
		last  uint64 // sequence
	)
	for _, n := range numbers {
		file := filepath.Join(folder, strconv.FormatUint(n, 10)+blockSuffix)
		content, err := os.ReadFile(file) // a few MB
		if err != nil {
			return nil, fmt.Errorf("%w: read %s: %w", ErrDataDir, file, err)
		}
		var message bool
		in, err := damagedRecords(content, stream, n, &last, &message)
		if err != nil {
			return nil, fmt.Errorf("%w: read %s: %w", ErrStore, file, err)
		}
		for i := range found {
			found[i].end = found[i].end && !message
		}
		for _, d := range in {
			d.stream, d.file, d.number = stream, file, n
			found = append(found, d)
		}
	}
	sound := slices.IndexFunc(found, func(d damage) bool {
		return d.end && !accepted && !mark.Closed && d.after >= mark.LastSeq
	})
	if sound >= 0 {
		found = found[:sound]
	}
	var taken []damage
	for _, d := range found {
		if n := len(taken); n > 0 && taken[n-1].end && taken[n-1].file == d.file {
			continue // the file is cut off before it
		}
		d.last = max(last, mark.LastSeq)
		taken = append(taken, d)
	}
	return taken, nil
}

// blockNumbers are the numbers of the message files in a folder, in order.
func blockNumbers(folder string) (numbers []uint64, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrDataDir, folder, err)
	}
	for _, entry := range entries {
		name, isBlock := strings.CutSuffix(entry.Name(), blockSuffix)
		if n, err := strconv.ParseUint(name, 10, 32); isBlock && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
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

// damagedRecords are the parts of a file without a sound record. last is the highest
// sequence that the stream has, message is set where the file has a message.
func damagedRecords(content []byte, stream string, number uint64, last *uint64, message *bool) (found []damage, err error) {
	if bytes.HasPrefix(content, []byte(compressed)) {
		return nil, nil
	}
	sum, err := blockHash(stream, number)
	if err != nil {
		return nil, err
	}
	for at := 0; at < len(content); {
		if length, sequence, sound := record(content[at:], sum); sound {
			*last = max(*last, sequence&^(noMessage|tombstone))
			if sequence&tombstone == 0 {
				*message = true
				for i := range found {
					found[i].end = false
				}
			}
			at += length
			continue
		}
		from := at
		for at++; at < len(content); at++ {
			if _, _, sound := record(content[at:], sum); sound {
				break
			}
		}
		found = append(found, damage{from: int64(from), to: int64(at), after: *last, end: true})
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
	if subject > 0 && !server.IsValidSubject(string(data[:subject])) {
		return 0, 0, false // its length is not in the hash
	}
	sum.Reset()
	for _, part := range [][]byte{content[4 : recordHead-2], data[:subject], data[rest:]} {
		sum.Write(part)
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
	return end < 0 || uint64(end+4) == length
}

// blockHash is the hash of the records of a stream's file.
func blockHash(stream string, number uint64) (hash.Hash, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, number))
	return highwayhash.New64(key[:])
}

// keep copies a file as it is into the data directory, and returns the copy's path.
func keep(dir string, d damage) (string, error) {
	folder := filepath.Join(dir, keptDir)
	if err := os.MkdirAll(folder, dirPerm); err != nil {
		return "", err
	}
	content, err := os.ReadFile(d.file)
	if err != nil {
		return "", err
	}
	kept := filepath.Join(folder, fmt.Sprintf("%s-%d-%s%s", d.stream, d.number, time.Now().UTC().Format("20060102T150405.000000000"), blockSuffix))
	return kept, writeSynced(kept, content)
}

// takeOut writes a record without a message over the damage, as the server does over
// what it erases. At the end of a stream that record has the sequence that the stream
// had come to, so that none is given twice. The server reads the files anew then.
func (d damage) takeOut() (err error) {
	folder := filepath.Dir(d.file)
	if err := os.Remove(filepath.Join(folder, indexFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := syncDir(folder); err != nil {
		return err
	}
	file, err := os.OpenFile(d.file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	length, sequence := d.to-d.from, uint64(0)
	if d.end {
		if err := file.Truncate(d.from); err != nil {
			return err
		}
		length, sequence = leastRecord, d.last
	}
	sum, err := blockHash(d.stream, d.number)
	if err != nil {
		return err
	}
	if _, err := file.WriteAt(emptyRecord(int(length), sequence, sum), d.from); err != nil {
		return err
	}
	return file.Sync()
}

// emptyRecord is a record without a message.
func emptyRecord(length int, sequence uint64, sum hash.Hash) []byte {
	empty := make([]byte, length)
	binary.LittleEndian.PutUint32(empty, uint32(length))
	binary.LittleEndian.PutUint64(empty[4:], sequence|noMessage)
	data := empty[:length-recordHash]
	sum.Reset()
	sum.Write(data[4 : recordHead-2])
	sum.Write(data[recordHead:])
	copy(empty[len(data):], sum.Sum(nil))
	return empty
}

// syncDir makes what was done to a folder's names last.
func syncDir(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
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
