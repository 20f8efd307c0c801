package sink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/ledgerline/ledgerline/pkg/logevent"
)

const (
	// execShell runs the command, as in a crontab.
	execShell = "/bin/sh"
	// execCloseGrace is how long children may take to end once their input is
	// closed: time to hang up on an accounting system, well within the 20 s a
	// shutdown has.
	execCloseGrace = 5 * time.Second
	// execKillGrace is how long a killed child is waited for; only one stuck in
	// the kernel takes longer, and nothing can be done about that.
	execKillGrace = time.Second
	// execExitGrace is how long a child that closed its output may take to end,
	// so that its exit code can be told.
	execExitGrace = 100 * time.Millisecond
	// execReadyGrace is how long a new child must live to be called ready: a
	// command that does not exist or lacks a setting ends sooner.
	execReadyGrace = 250 * time.Millisecond
	// execStderrLineBytes bounds a logged line of a child's stderr.
	execStderrLineBytes = 1024
	// execStderrPerSecond and execStderrBurst bound the lines of all children
	// together: a traceback passes whole, a child in a loop does not fill the
	// disk that the engine needs.
	execStderrPerSecond = 20
	execStderrBurst     = 100
)

// withheldFromChildren begin the names of variables a child does not inherit:
// among them are the engine's own credentials for Pleo and NATS.
var withheldFromChildren = []string{"LEDGERLINE_", "NATS_"}

// execCarrier keeps child processes that each answer a line with a line. A
// child works on one delivery at a time; one that went quiet, away or wrong is
// killed and not asked again, since its next line might be the late answer to
// an earlier item.
type execCarrier struct {
	command string
	env     []string
	logger  zerolog.Logger

	slots chan struct{} // one for each child that may work

	stderrRate    *rate.Limiter
	stderrDropped atomic.Int64

	mu     sync.Mutex
	idle   []*child // last used last
	all    map[*child]struct{}
	closed bool
}

func openExec(command string, o Options) (*execCarrier, error) {
	if !canRunChildren {
		return nil, fmt.Errorf("%w: exec: needs a Unix system", ErrSpec)
	}
	return &execCarrier{
		command:    command,
		env:        childEnv(os.Environ()),
		logger:     o.Logger,
		slots:      make(chan struct{}, o.MaxConcurrent),
		stderrRate: rate.NewLimiter(execStderrPerSecond, execStderrBurst),
		all:        map[*child]struct{}{},
	}, nil
}

func childEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(setting string) bool {
		return slices.ContainsFunc(withheldFromChildren, func(prefix string) bool { return strings.HasPrefix(setting, prefix) })
	})
}

func (c *execCarrier) carry(ctx context.Context, _ Delivery, body []byte) Answer {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return Answer{Outcome: Retry, Detail: fmt.Sprintf("not sent: all %d children are at work", cap(c.slots))}
	}
	question := append(slices.Clip(oneLine(body)), '\n')
	for {
		ch, reused, err := c.take()
		if err != nil {
			return Answer{Outcome: Retry, Detail: "not sent: " + err.Error()}
		}
		answer, state := ch.ask(ctx, question)
		if state == childFit {
			c.give(ch)
		}
		// A child that ended while it was idle has read nothing of the
		// question; the next one may have it. Ends at a new child.
		if state == childUnasked && reused && ctx.Err() == nil {
			continue
		}
		return answer
	}
}

// take gives an idle child, or else a new one.
func (c *execCarrier) take() (ch *child, reused bool, err error) {
	c.mu.Lock()
	for len(c.idle) > 0 {
		ch := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		select {
		case _, alive := <-ch.answers:
			if alive {
				ch.kill("it wrote a line that nobody had asked for")
			}
		default:
			c.mu.Unlock()
			return ch, true, nil
		}
	}
	defer c.mu.Unlock()
	if c.closed {
		return nil, false, ErrClosed
	}
	ch, err = c.start()
	return ch, false, err
}

func (c *execCarrier) give(ch *child) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.idle = append(c.idle, ch)
	}
}

// child is one running command.
type child struct {
	pid                   int
	logger                zerolog.Logger
	stdin, stdout, stderr *os.File      // our ends
	answers               chan []byte   // lines of its stdout; closed at their end
	exited                chan struct{} // closed once it has ended
	drained               chan struct{} // closed once what it wrote is read, too

	mu     sync.Mutex
	gone   bool
	status string // how it ended, once gone
	reason string // why it was killed; "" = it was not
}

// start is called under mu.
func (c *execCarrier) start() (*child, error) {
	var opened []*os.File
	closeAll := func() {
		for _, f := range opened {
			_ = f.Close()
		}
	}
	var theirs, ours [3]*os.File
	for i := range theirs {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("make a pipe for the sink's command: %w", err)
		}
		opened = append(opened, r, w)
		theirs[i], ours[i] = w, r
		if i == 0 {
			theirs[i], ours[i] = r, w
		}
	}
	// No delivery's context: a child serves many, and ask kills it where one ends.
	cmd := exec.CommandContext(context.Background(), execShell, "-c", c.command)
	cmd.Env = c.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		closeAll()
		return nil, fmt.Errorf("start the sink's command: %w", err)
	}
	for _, f := range theirs {
		_ = f.Close()
	}
	ch := &child{
		pid:     cmd.Process.Pid,
		logger:  c.logger,
		stdin:   ours[0],
		stdout:  ours[1],
		stderr:  ours[2],
		answers: make(chan []byte, 1),
		exited:  make(chan struct{}),
		drained: make(chan struct{}),
	}
	c.all[ch] = struct{}{}
	ch.logger.Info().Int("pid", ch.pid).Msg(logevent.SinkChildStarted)
	var readers sync.WaitGroup
	readers.Go(ch.readAnswers)
	readers.Go(func() { c.logStderr(ch) })
	go c.wait(ch, cmd, &readers)
	return ch, nil
}

// wait sees a child off.
func (c *execCarrier) wait(ch *child, cmd *exec.Cmd, readers *sync.WaitGroup) {
	err := cmd.Wait() // all three streams are files: it returns when the process ends, whoever holds them open
	ch.mu.Lock()
	ch.gone = true
	ch.status = "exit code 0"
	if err != nil {
		ch.status = err.Error()
	}
	reason := ch.reason
	ch.mu.Unlock()
	killGroup(ch.pid) // what it started and left behind; the number is still the group's, or nobody's yet

	// What it wrote before it ended is still read; but a process that left the
	// group may hold the pipes open for ever.
	limit := time.Now().Add(execKillGrace)
	_ = ch.stdout.SetReadDeadline(limit)
	_ = ch.stderr.SetReadDeadline(limit)

	if reason == "" {
		ch.logger.Info().Int("pid", ch.pid).Int("exit_code", cmd.ProcessState.ExitCode()).Msg(logevent.SinkChildStopped)
	}
	close(ch.exited)
	readers.Wait()
	_, _, _ = ch.stdin.Close(), ch.stdout.Close(), ch.stderr.Close()
	c.mu.Lock()
	delete(c.all, ch)
	c.mu.Unlock()
	close(ch.drained)
}

// kill ends the child and everything in its group, once.
func (ch *child) kill(reason string) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.gone || ch.reason != "" {
		return
	}
	ch.reason = reason
	killGroup(ch.pid)
	now := time.Now()
	_ = ch.stdin.SetWriteDeadline(now)
	_ = ch.stdout.SetReadDeadline(now)
	_ = ch.stderr.SetReadDeadline(now)
	ch.logger.Warn().Int("pid", ch.pid).Str("reason", reason).Msg(logevent.SinkChildKilled)
}

func (ch *child) killed() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.reason != ""
}

// childState is what may be done with a child after a question.
type childState int

const (
	childFit     childState = iota // it answered; it may be asked again
	childSpent                     // it is dead, or killed
	childUnasked                   // it is dead, and had read nothing of the question
)

// ask writes the question and waits for the one line that answers it.
func (ch *child) ask(ctx context.Context, question []byte) (Answer, childState) {
	stop := context.AfterFunc(ctx, func() { ch.kill(context.Cause(ctx).Error()) })
	defer stop()
	n, err := ch.stdin.Write(question) // ends when the child is killed
	if err != nil {
		answer := unanswered(ctx, fmt.Errorf("the sink's process %d ended before it had read the item: %s", ch.pid, ch.end(ctx)))
		if n == 0 {
			return answer, childUnasked
		}
		return answer, childSpent
	}
	select {
	case line, ok := <-ch.answers:
		if !ok {
			return unanswered(ctx, fmt.Errorf("the sink's process %d ended before it answered: %s", ch.pid, ch.end(ctx))), childSpent
		}
		answer, understood := lineAnswer(line)
		if !understood {
			ch.kill("it wrote a line that is no answer")
			return answer, childSpent
		}
		if !bytes.HasSuffix(line, []byte("\n")) { // its output ended with the answer, and so must it
			ch.end(ctx)
			return answer, childSpent
		}
		// A time-out at this very moment, or a line too many, has killed the child;
		// the answer is good all the same.
		if !stop() || ch.killed() {
			return answer, childSpent
		}
		return answer, childFit
	case <-ctx.Done():
		return unanswered(ctx, ctx.Err()), childSpent
	}
}

// end tells how a child that closed its output ended, and makes sure it did.
func (ch *child) end(ctx context.Context) string {
	grace := time.NewTimer(execExitGrace)
	defer grace.Stop()
	select {
	case <-ch.exited:
	case <-ctx.Done():
		ch.kill(context.Cause(ctx).Error())
	case <-grace.C:
		ch.kill("it closed its input or output and went on")
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.ending()
}

// ending is called under mu.
func (ch *child) ending() string {
	if ch.reason != "" {
		return "killed, " + ch.reason
	}
	return ch.status
}

// readAnswers passes on the lines of the child's stdout. One may wait to be
// read; a second has no question.
func (ch *child) readAnswers() {
	defer close(ch.answers)
	r := bufio.NewReaderSize(ch.stdout, MaxAnswerBytes)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			ch.kill(fmt.Sprintf("it wrote a line of more than %d bytes", MaxAnswerBytes))
			return
		case err != nil:
			// A last line without its line break counts if it is whole: half a
			// JSON object is none.
			if _, whole := readWire(line); !whole || !errors.Is(err, io.EOF) {
				return
			}
		}
		// Written in the same breath: it must not be taken for the next answer. The
		// line before it stands.
		more := r.Buffered() > 0
		if more {
			ch.kill("it wrote a line that nobody had asked for")
		}
		select {
		case ch.answers <- bytes.Clone(line):
		default:
			ch.kill("it wrote more lines than it was asked for")
			return
		}
		if err != nil || more {
			return
		}
	}
}

// logStderr logs what a child has to say to people.
func (c *execCarrier) logStderr(ch *child) {
	r := bufio.NewReaderSize(ch.stderr, execStderrLineBytes)
	for {
		line, cut, err := r.ReadLine()
		if text := clean(string(line), execStderrLineBytes); text != "" {
			if c.stderrRate.Allow() {
				c.logger.Info().Int("pid", ch.pid).Str("line", text).Int64("dropped", c.stderrDropped.Swap(0)).Msg(logevent.SinkStderrRead)
			} else {
				c.stderrDropped.Add(1)
			}
		}
		for cut && err == nil {
			_, cut, err = r.ReadLine()
		}
		if err != nil {
			return
		}
	}
}

// ready starts a child where none runs and sees whether it stays.
func (c *execCarrier) ready(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return nil // every child is at work
	}
	ch, reused, err := c.take()
	if err != nil {
		return err
	}
	if reused {
		c.give(ch)
		return nil
	}
	grace := time.NewTimer(execReadyGrace)
	defer grace.Stop()
	select {
	case _, alive := <-ch.answers:
		if alive {
			ch.kill("it wrote a line that nobody had asked for")
		}
		return fmt.Errorf("the sink's command did not wait for an item: %s", ch.end(ctx))
	case <-ctx.Done():
		ch.kill(context.Cause(ctx).Error())
		return context.Cause(ctx)
	case <-grace.C:
		c.give(ch)
		return nil
	}
}

// close lets the children end by themselves at the end of their input, and
// kills those that do not.
func (c *execCarrier) close() error {
	c.mu.Lock()
	c.closed = true
	c.idle = nil
	children := make([]*child, 0, len(c.all))
	for ch := range c.all {
		children = append(children, ch)
	}
	c.mu.Unlock()
	for _, ch := range children {
		_ = ch.stdin.Close()
	}
	if !awaitAll(children, execCloseGrace) {
		for _, ch := range children {
			ch.kill("it did not end when its input did")
		}
		if !awaitAll(children, execKillGrace) {
			return errors.New("close the sink: a killed child has not ended")
		}
	}
	// The last words of a child belong in the log; wait bounds how long they take.
	for _, ch := range children {
		<-ch.drained
	}
	return nil
}

func awaitAll(children []*child, grace time.Duration) bool {
	limit := time.NewTimer(grace)
	defer limit.Stop()
	for _, ch := range children {
		select {
		case <-ch.exited:
		case <-limit.C:
			return false
		}
	}
	return true
}
