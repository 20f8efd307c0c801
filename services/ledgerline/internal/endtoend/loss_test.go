package endtoend

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"google.golang.org/protobuf/proto"

	"github.com/ledgerline/ledgerline/pkg/embedded"
	ledgerlinev1 "github.com/ledgerline/ledgerline/pkg/gen/ledgerline/v1"
	"github.com/ledgerline/ledgerline/pkg/logevent"
	"github.com/ledgerline/ledgerline/pkg/natstest"
	"github.com/ledgerline/ledgerline/pkg/sink"
	"github.com/ledgerline/ledgerline/pkg/subject"
	"github.com/ledgerline/ledgerline/services/simulator"
)

const (
	lossCompanies = 6
	lossItems     = 120
	// lossPatience is for several leases and looks in a row on a busy machine.
	lossPatience = slowness * 3 * time.Minute
	// lossPace keeps jobs at work for longer than it takes to notice a loss.
	lossPace = 30 * time.Millisecond
)

// losing is an installation at work whose store is about to be harmed: a gateway,
// two fetchers, two consumers, and a job of each company that a webhook announced.
type losing struct {
	*installation
	to      *book
	jobs    []uuid.UUID
	workers []*worker
	// accepted are the entries that Pleo had accepted, by job, and sent how many
	// items had been sent, before the harm.
	accepted map[uuid.UUID]map[string]bool
	sent     int
}

func losingIn(t *testing.T, seed uint64, dir string) *losing {
	t.Helper()
	d := newDoor(t)
	in := installIn(t, simulator.Config{Seed: seed, Companies: lossCompanies, Webhook: d.webhooks()}, dir, "127.0.0.1:0")
	in.patience = lossPatience
	l := &losing{installation: in, to: &book{answer: paced}, accepted: map[uuid.UUID]map[string]bool{}}
	l.workers = []*worker{in.fetcher(startsNothing), in.fetcher(startsNothing), in.consumer(l.to), in.consumer(l.to)}
	g, _ := d.gateway(in, polls(2*time.Second))
	l.workers = append(l.workers, g)
	l.more(lossItems)
	return l
}

// more adds a job to each company.
func (l *losing) more(n int) {
	for company := range lossCompanies {
		l.jobs = append(l.jobs, l.add(simulator.JobSpec{CompanyID: l.upstream.Company(company), Items: items(n), Status: simulator.JobPending}))
	}
}

// paced books an item in its time.
func paced(ctx context.Context, d sink.Delivery) sink.Answer {
	timer := time.NewTimer(lossPace)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return bookedAs(d)
}

// midway waits until jobs are in their middle and notes what was acknowledged.
func (l *losing) midway() {
	l.t.Helper()
	l.to.wait(l.installation, lossCompanies*lossItems/3)
	l.note()
}

func (l *losing) note() {
	l.sent = len(l.to.deliveries())
	for _, id := range l.jobs {
		l.accepted[id] = map[string]bool{}
		for _, item := range l.job(id).Items {
			if item.Status == simulator.ItemSuccessful {
				l.accepted[id][item.AccountingEntryID.String()] = true
			}
		}
	}
}

// down stops the server, harms its store and starts it again at its address.
func (l *losing) down(harm func(dir string)) {
	l.t.Helper()
	if err := l.server.Close(); err != nil {
		l.t.Fatal(err)
	}
	harm(l.dir)
	l.up()
}

func (l *losing) up() {
	l.t.Helper()
	if err := l.tryUp(); err != nil {
		l.t.Fatal(err)
	}
}

func (l *losing) tryUp() error {
	server, err := embedded.Start(embedded.Options{DataDir: l.dir, Listen: l.addr, Logger: l.logger()})
	if err == nil {
		l.server = server
	}
	return err
}

// recovers waits until every job has ended, and then sees each company's next job
// through: nobody waits for what was lost.
func (l *losing) recovers() {
	l.t.Helper()
	l.complete()
	l.log.Wait(logevent.StoreLost)
	l.more(3)
	l.complete()
}

// complete waits until every job is completed at Pleo. It asks nobody else: the
// state that others would be asked for may be what was lost.
func (l *losing) complete() {
	l.t.Helper()
	ctx := l.bounded("a job was not completed")
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for _, id := range l.jobs {
		for j := l.job(id); j.Status == simulator.JobPending || j.Status == simulator.JobInProgress; j = l.job(id) {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				l.t.Fatalf("job %s is %s at Pleo", id, j.Status)
			}
		}
	}
}

// judge compares Pleo's final state with the sink's record: every job completed
// once, every item booked, in order, and nothing sent again that Pleo had accepted
// before the harm. It returns how many items were sent again.
func (l *losing) judge() (again int) {
	l.t.Helper()
	sent := l.to.deliveries()
	for _, id := range l.jobs {
		j := l.job(id)
		if events := eventsOf(j); j.Status != simulator.JobCompleted || j.OpenAtClose != 0 || !slices.Equal(events, []string{"started", "completed"}) {
			l.t.Errorf("job %s is %s, %d items open at its close, events %v", id, j.Status, j.OpenAtClose, events)
		}
		times := map[string]int{}
		var last sink.Delivery
		for i, d := range sent {
			if d.JobID != id.String() {
				continue
			}
			times[d.AccountingEntryID]++
			if i >= l.sent && l.accepted[id][d.AccountingEntryID] {
				l.t.Errorf("job %s: entry %s was sent again, and Pleo had accepted it", id, d.AccountingEntryID)
			}
			// From one item to the next the order holds, but where work begins again
			// after the harm: further back then, never further on.
			if before(d, last) && i < l.sent {
				l.t.Errorf("job %s: entry %s came after entry %s before anything was lost", id, d.AccountingEntryID, last.AccountingEntryID)
			}
			last = d
		}
		for _, item := range j.Items {
			entry := item.AccountingEntryID.String()
			if item.Status != simulator.ItemSuccessful || times[entry] == 0 {
				l.t.Errorf("job %s: entry %s is %s at Pleo and was sent %d times", id, entry, item.Status, times[entry])
			}
			again += max(0, times[entry]-1)
		}
		l.inOrderSince(id, sent)
	}
	return again
}

// inOrderSince insists that, after the harm, the items of a job came in order: as
// often as work began again, but each time in order to where it was left.
func (l *losing) inOrderSince(id uuid.UUID, sent []sink.Delivery) {
	l.t.Helper()
	var last sink.Delivery
	begun := 0
	for i, d := range sent {
		if i < l.sent || d.JobID != id.String() {
			continue
		}
		if last.JobID != "" && before(d, last) {
			begun++
		}
		last = d
	}
	// Once for the work that was in hand at the harm, and once more where a job had
	// gone on before it was noticed.
	if begun > 2 {
		l.t.Errorf("job %s: work began again %d times after the harm", id, begun)
	}
}

// before tells whether a comes before b in the order of date.
func before(a, b sink.Delivery) bool {
	switch {
	case b.JobID == "" || a.Date == nil && b.Date != nil:
		return false
	case a.Date != nil && b.Date == nil:
		return true
	case a.Date != nil && !a.Date.Equal(*b.Date):
		return a.Date.Before(*b.Date)
	}
	x, y := uuid.MustParse(a.AccountingEntryID), uuid.MustParse(b.AccountingEntryID)
	return bytes.Compare(x[:], y[:]) < 0
}

// empty stops the workers and insists that ended jobs left nothing behind.
func (l *losing) empty() {
	l.t.Helper()
	l.ends(l.jobs[len(l.jobs)-lossCompanies:]...)
	for _, w := range l.workers {
		w.stop()
	}
	l.readersGone()
	l.nothingLeft()
}

// readersGone waits for the consumers of readings that the harm met: nobody could
// remove them, and the server does when nobody has used them for half a minute
// (history.go). A job's consumer would stay for a day, and this fails.
func (l *losing) readersGone() {
	l.t.Helper()
	ctx := l.bounded("a consumer stays on the pipe")
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		names := natstest.Consumers(ctx, l.t, l.js, subject.StreamPipe)
		if slices.Equal(names, []string{subject.DurableConsumer}) {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			l.t.Fatalf("%v: %v", context.Cause(ctx), names)
		}
	}
}

// The state of every durable is removed under the server: the streams tell the
// rest, and nothing is sent again but what was in hand.
func TestTheServersConsumerStateIsLost(t *testing.T) {
	t.Parallel()
	l := losingIn(t, 140, t.TempDir())
	l.midway()
	l.down(func(dir string) {
		removed := 0
		for _, stream := range []string{subject.StreamEvents, subject.StreamPipe, subject.StreamDetected} {
			obs := filepath.Join(dir, "jetstream", "$G", "streams", stream, "obs")
			if err := filepath.WalkDir(obs, func(string, fs.DirEntry, error) error { removed++; return nil }); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(obs); err != nil {
				t.Fatal(err)
			}
		}
		if removed < 6 {
			t.Fatalf("%d files held the state of the durables", removed)
		}
	})
	l.recovers()
	if again := l.judge(); again > lossCompanies {
		t.Errorf("%d items were sent again, at most one a job was in hand", again)
	}
	l.empty()
}

// Each stream and the bucket is removed alone while jobs run: it is noticed, made
// anew, and every job ends well. What that may cost is different for each.
func TestAStreamIsLostWhileJobsRun(t *testing.T) {
	t.Parallel()
	for n, lost := range []string{"KV_" + subject.BucketJobs, subject.StreamLedger, subject.StreamPipe, subject.StreamEvents, subject.StreamDetected} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			l := losingIn(t, 141+uint64(n), t.TempDir())
			l.midway()
			if err := l.js.DeleteStream(l.bounded("the stream was not removed"), lost); err != nil {
				t.Fatal(err)
			}
			l.recovers()
			again := l.judge()
			switch lost {
			case subject.StreamLedger:
				// What was booked and not accepted by Pleo yet is forgotten with it.
				l.log.Wait(logevent.LedgerForgot)
			default:
				if again > lossCompanies {
					t.Errorf("%d items were sent again, at most one a job was in hand", again)
				}
			}
			t.Logf("%d items were sent again", again)
			l.empty()
		})
	}
}

// The whole store is removed under running jobs: they are drained again from Pleo,
// and what Pleo has accepted is not sent again.
func TestTheWholeStoreIsLost(t *testing.T) {
	t.Parallel()
	l := losingIn(t, 150, t.TempDir())
	l.midway()
	l.down(func(dir string) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	})
	l.recovers()
	t.Logf("%d items were sent again", l.judge())
	l.empty()
}

// copyStore copies the store file by file while the server writes it, as a backup
// does that knows nothing of the server. A file that vanishes meanwhile is left out.
func copyStore(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, path[len(from):])
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The store is copied at random moments while jobs run, everything is stopped a
// moment later, and work goes on from a copy: what was acknowledged before the copy
// is kept, and nothing of it is sent again.
func TestWorkGoesOnFromACopyOfTheStore(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			l := losingIn(t, 160+seed, filepath.Join(t.TempDir(), "store"))
			random := rand.New(rand.NewPCG(160, seed))
			l.to.wait(l.installation, 30+random.IntN(lossCompanies*lossItems*2/3))
			l.note()
			// What the sink has been sent after an item is recorded only when that item
			// is: all but the last item of each job are in the ledger by now.
			recorded := l.recordedBy(l.to.deliveries())
			copied := filepath.Join(t.TempDir(), "copy")
			copyStore(t, l.dir, copied)
			for _, w := range l.workers {
				w.die()
			}
			if err := l.server.Close(); err != nil {
				t.Fatal(err)
			}
			for _, w := range l.workers {
				w.stop()
			}
			l.dir = copied
			l.up()
			restarted := len(l.to.deliveries())
			l.workers = []*worker{l.fetcher(startsNothing), l.consumer(l.to), l.consumer(l.to)}
			d := newDoor(t)
			g, _ := d.gateway(l.installation, polls(2*time.Second))
			l.workers = append(l.workers, g)
			l.complete()
			for _, delivery := range l.to.deliveries()[restarted:] {
				if recorded[delivery.JobID+delivery.AccountingEntryID] {
					t.Errorf("job %s: entry %s was sent again, and its booking was recorded before the copy", delivery.JobID, delivery.AccountingEntryID)
				}
			}
			t.Logf("copied after %d items; %d items were sent again", l.sent, l.judge())
			l.empty()
		})
	}
}

// recordedBy are the entries of each job that another one followed: the record of
// the one stands before the other is sent.
func (l *losing) recordedBy(sent []sink.Delivery) map[string]bool {
	recorded, last := map[string]bool{}, map[string]string{}
	for _, d := range sent {
		if before, found := last[d.JobID]; found {
			recorded[d.JobID+before] = true
		}
		last[d.JobID] = d.AccountingEntryID
	}
	return recorded
}

// A byte of the middle of a stream's file is changed while the server is down. It
// refuses the store in words; and once a person has agreed, what is damaged is mended
// from Pleo, or the job is parked with a reason. Never is an item left out or sent
// again in silence.
func TestADamagedBlock(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{subject.StreamLedger, subject.StreamPipe} {
		for seed := range uint64(2) {
			t.Run(stream+"/"+strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(170, seed))
				l := losingIn(t, 170+seed, t.TempDir())
				block, recorded, before := l.downWith(stream)
				record := l.needed(random, stream, block)
				l.damage(block, record.at+random.IntN(record.length))
				if seed%2 == 1 {
					// As after a crash: without it the server reads every block.
					if err := os.Remove(filepath.Join(filepath.Dir(block), "index.db")); err != nil {
						t.Fatal(err)
					}
				}
				if err := l.tryUp(); err == nil || !strings.Contains(err.Error(), "stream "+stream+" is damaged after message ") {
					t.Fatalf("the server's start: %v", err)
				}
				l.refusedUntilTold()
				l.judgeDamage(stream, recorded, before)
			})
		}
	}
}

// A NATS server of one's own starts all the same, and a message of it that is damaged
// is met while jobs run.
func TestADamagedMessageUnderAServerOfOnesOwn(t *testing.T) {
	t.Parallel()
	for seed, stream := range []string{subject.StreamLedger, subject.StreamPipe} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(175, uint64(seed)))
			l := losingIn(t, 175+uint64(seed), t.TempDir())
			block, recorded, before := l.downWith(stream)
			// In a message, not in what stands before it: at damage there the server
			// cuts the stream off, and docs/reliability.md says what that asks for.
			record := l.needed(random, stream, block)
			l.damage(block, record.at+record.length-recordHash-1)
			host, port, err := net.SplitHostPort(l.addr)
			if err != nil {
				t.Fatal(err)
			}
			number, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			own, err := natsserver.NewServer(&natsserver.Options{
				Host: host, Port: number, JetStream: true, StoreDir: l.dir, SyncAlways: true, NoSigs: true, NoLog: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			own.Start()
			t.Cleanup(func() {
				own.Shutdown()
				own.WaitForShutdown()
			})
			l.judgeDamage(stream, recorded, before)
		})
	}
}

// The layout of a stored message: its length, sequence and time and the length of its
// subject; the subject; the message; a hash.
const (
	recordHead = 22
	recordHash = 8
)

// stored is a message in a file.
type stored struct {
	at, length int
	subject    string
	data       []byte // with the headers, where there are any
}

func storedIn(content []byte) (all []stored) {
	for at := 0; at < len(content); {
		one := stored{at: at, length: int(binary.LittleEndian.Uint32(content[at:]) &^ (1 << 31))}
		data := at + recordHead + int(binary.LittleEndian.Uint16(content[at+recordHead-2:]))
		one.subject, one.data = string(content[at+recordHead:data]), content[data:at+one.length-recordHash]
		all = append(all, one)
		at += one.length
	}
	return all
}

// needed is a message of a stream that the jobs at work cannot do without: a record in
// the middle of the ledger, or an item that has not been sent yet.
func (l *losing) needed(random *rand.Rand, stream, block string) stored {
	l.t.Helper()
	all := storedIn(l.content(block))
	if stream == subject.StreamLedger {
		return all[len(all)/4+random.IntN(len(all)/2)]
	}
	all = slices.DeleteFunc(all, func(one stored) bool {
		item := new(ledgerlinev1.Item)
		job, _, isItem := subject.ItemsAttempt(one.subject)
		if !isItem {
			return true
		}
		// A batch's messages have headers.
		data := one.data
		if end := bytes.Index(data, []byte("\r\n\r\n")); end >= 0 {
			data = data[end+4:]
		}
		if err := proto.Unmarshal(data, item); err != nil {
			l.t.Fatal(err)
		}
		id, err := uuid.FromBytes(item.GetEntryId())
		if err != nil {
			l.t.Fatal(err)
		}
		return slices.ContainsFunc(l.to.deliveries(), func(d sink.Delivery) bool {
			return d.JobID == job.String() && d.AccountingEntryID == id.String()
		})
	})
	if len(all) == 0 {
		l.t.Fatal("every item was sent before the harm")
	}
	return all[random.IntN(len(all))]
}

// downWith stops the server in the middle of jobs and returns a stream's file, what
// was recorded by then, and how many items had been sent.
func (l *losing) downWith(stream string) (block string, recorded map[string]bool, before int) {
	l.t.Helper()
	l.midway()
	if err := l.server.Close(); err != nil {
		l.t.Fatal(err)
	}
	block = filepath.Join(l.dir, "jetstream", "$G", "streams", stream, "msgs", "1.blk")
	return block, l.recordedBy(l.to.deliveries()), len(l.to.deliveries())
}

func (l *losing) content(file string) []byte {
	l.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		l.t.Fatal(err)
	}
	return content
}

func (l *losing) damage(file string, at int) {
	l.t.Helper()
	content := l.content(file)
	content[at] ^= 0xff
	if err := os.WriteFile(file, content, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// judgeDamage waits for the jobs' ends: all completed, but that one may be parked with
// the reason where the ledger was damaged; and nothing recorded was sent again.
func (l *losing) judgeDamage(stream string, recorded map[string]bool, before int) {
	l.t.Helper()
	parked := 0
	for id, s := range l.ends(l.jobs...) {
		if s.GetPhase() == ledgerlinev1.JobPhase_JOB_PHASE_COMPLETED {
			continue
		}
		named := strings.Contains(s.GetReason(), "the ledger of the job") || strings.Contains(s.GetReason(), "damaged")
		if parked++; stream != subject.StreamLedger || !named {
			l.t.Errorf("job %s is %s: %s", id, s.GetPhase(), s.GetReason())
		}
	}
	if parked > 1 {
		l.t.Errorf("%d jobs are parked for one damaged record", parked)
	}
	for _, d := range l.to.deliveries()[before:] {
		if recorded[d.JobID+d.AccountingEntryID] {
			l.t.Errorf("job %s: entry %s was sent again, and its booking was recorded", d.JobID, d.AccountingEntryID)
		}
	}
}

// refusedUntilTold does what the refusal asks of a person who has no backup.
func (l *losing) refusedUntilTold() {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, "ledgerline-accept-loss"), nil, 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.up()
}

// The disk is full while jobs run: that is told, nothing that was not stored is gone
// on from, and with room again every job ends, with at most the item in hand of each
// sent again.
func TestTheDiskIsFullWhileJobsRun(t *testing.T) {
	if raceDetector {
		// EnableJetStream of nats-server 2.15.2 replaces the API's queues under requests
		// that read them. Both queues are served, so nothing comes of it but the report,
		// which would fail every test that runs at the moment.
		t.Skip("NOTE: the full disk under running jobs is tested without the race detector only")
	}
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("NOTE: no file system can be mounted here, so the full disk under running jobs is NOT TESTED: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("unmount %s: %v %s", dir, err, out)
		}
	})
	l := losingIn(t, 180, dir)
	l.midway()
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 1<<12))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l.log.Wait(logevent.NATSStoreUnusable)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	l.log.Wait(logevent.NATSStoreReopened)
	l.complete()
	if again := l.judge(); again > lossCompanies {
		t.Errorf("%d items were sent again, at most one a job was in hand", again)
	}
	l.empty()
}

// breakable is a disk of its own that can be made read-only under open files, as the
// kernel does it when it meets an error, and mended again.
type breakable struct {
	t          *testing.T
	image, dir string
}

func breakableDisk(t *testing.T) *breakable {
	t.Helper()
	d := &breakable{t: t, image: filepath.Join(t.TempDir(), "disk"), dir: filepath.Join(t.TempDir(), "mounted")}
	const size = 64 << 20
	err := errors.Join(os.Mkdir(d.dir, 0o700), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, size))
	if err != nil {
		t.Fatal(err)
	}
	skip := func(what string, err error) {
		t.Skipf("NOTE: no disk can be broken here, so a store that becomes read-only is NOT TESTED: %s: %v", what, err)
	}
	if err := d.run("mkfs.ext4", "-q", d.image); err != nil {
		skip("mkfs.ext4", err)
	}
	if err := d.mount(); err != nil {
		skip("mount", err)
	}
	t.Cleanup(func() {
		if err := d.run("umount", d.dir); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Stat(d.trigger()); err != nil {
		skip("the kernel's trigger", err)
	}
	return d
}

func (d *breakable) run(program string, args ...string) error {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w %s", program, args, err, out)
	}
	return nil
}

func (d *breakable) mount() error {
	return d.run("mount", "-o", "loop,errors=remount-ro", d.image, d.dir)
}

// trigger is the file by which the kernel is told to meet an error.
func (d *breakable) trigger() string {
	d.t.Helper()
	device, err := exec.Command("findmnt", "-n", "-o", "SOURCE", d.dir).Output()
	if err != nil {
		d.t.Fatal(err)
	}
	return filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(device))), "trigger_fs_error")
}

func (d *breakable) breakIt() {
	d.t.Helper()
	if err := os.WriteFile(d.trigger(), []byte("a test"), 0); err != nil {
		d.t.Fatal(err)
	}
}

// mend mounts the disk again once nobody has it open.
func (d *breakable) mend() {
	d.t.Helper()
	if err := d.run("umount", d.dir); err != nil {
		d.t.Fatal(err)
	}
	// 1: errors were corrected.
	var exit *exec.ExitError
	if err := d.run("fsck.ext4", "-p", "-f", d.image); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		d.t.Fatal(err)
	}
	if err := d.mount(); err != nil {
		d.t.Fatal(err)
	}
}

// The disk becomes read-only while jobs run: that is told, nothing that was not stored
// is gone on from, and when the disk is mended and the server started again every job
// ends, with at most the item in hand of each sent again.
func TestTheStoreBecomesReadOnlyWhileJobsRun(t *testing.T) {
	t.Parallel()
	disk := breakableDisk(t)
	l := losingIn(t, 190, filepath.Join(disk.dir, "store"))
	l.midway()
	disk.breakIt()
	l.log.Wait(logevent.NATSStoreUnusable)
	if err := l.server.Ready(); !errors.Is(err, embedded.ErrNotReady) {
		t.Errorf("the server is ready: %v", err)
	}
	// It cannot write down how far it had come.
	if err := l.server.Close(); !errors.Is(err, embedded.ErrDataDir) && !errors.Is(err, syscall.EROFS) {
		t.Errorf("the server's end: %v", err)
	}
	disk.mend()
	l.up()
	l.complete()
	if again := l.judge(); again > lossCompanies {
		t.Errorf("%d items were sent again, at most one a job was in hand", again)
	}
	l.empty()
}
