// Members of etcd's own raft library, played over standard input and output by tests/support/go_raft.py.
//
// One line in, one line of JSON out. `new ID VOTERS PREVOTE CHECKQUORUM BYTES MESSAGES` makes a member whose log starts
// after entry 1 of term 1; every other line is `VERB ID [ARGUMENT]`. Bytes travel as hexadecimal digits.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

type member struct {
	node    *raft.RawNode
	storage *raft.MemoryStorage
	config  raft.Config
	applied uint64
	group   *raftpb.ConfState
}

type entry struct {
	Term, Index uint64
	Type        int
	Data        string
}

type read struct {
	Index   uint64
	Context string
}

type reply struct {
	Error                      string
	Messages                   []string
	Applied                    []entry
	Reads                      []read
	Installed                  uint64
	Leads                      bool
	Term, Commit               uint64
	Voters, Learners, Outgoing []uint64
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func number(text string) uint64 {
	value, err := strconv.ParseUint(text, 10, 64)
	must(err)
	return value
}

func unhex(text string) []byte {
	value, err := hex.DecodeString(text)
	must(err)
	return value
}

func found(words []string) *member {
	group := &raftpb.ConfState{}
	for _, voter := range strings.Split(words[2], ",") {
		group.Voters = append(group.Voters, number(voter))
	}
	storage := raft.NewMemoryStorage()
	metadata := &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: group}
	must(storage.ApplySnapshot(&raftpb.Snapshot{Metadata: metadata}))
	must(storage.SetHardState(&raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))}))
	config := raft.Config{
		ID: number(words[1]), ElectionTick: 10, HeartbeatTick: 1, PreVote: words[3] == "1", CheckQuorum: words[4] == "1",
		MaxSizePerMsg: number(words[5]), MaxInflightMsgs: int(number(words[6])), Logger: quiet{},
	}
	made := &member{storage: storage, config: config, applied: 1, group: group}
	made.start()
	return made
}

func (m *member) start() {
	m.config.Storage, m.config.Applied = m.storage, m.applied
	node, err := raft.NewRawNode(&m.config)
	must(err)
	m.node = node
}

// snapshot makes storage's snapshot that of the state as it is, as a server would send it.
func (m *member) snapshot() {
	if known, err := m.storage.Snapshot(); err == nil && known.GetMetadata().GetIndex() < m.applied {
		_, err = m.storage.CreateSnapshot(m.applied, m.group, nil)
		must(err)
	}
}

func (m *member) apply(each *raftpb.Entry) entry {
	m.applied = each.GetIndex()
	switch each.GetType() {
	case raftpb.EntryConfChange:
		change := &raftpb.ConfChange{}
		must(proto.Unmarshal(each.GetData(), change))
		m.group = m.node.ApplyConfChange(change)
	case raftpb.EntryConfChangeV2:
		change := &raftpb.ConfChangeV2{}
		must(proto.Unmarshal(each.GetData(), change))
		m.group = m.node.ApplyConfChange(change)
	}
	return entry{each.GetTerm(), each.GetIndex(), int(each.GetType()), hex.EncodeToString(each.GetData())}
}

func (m *member) work(answer *reply) {
	for m.node.HasReady() {
		ready := m.node.Ready()
		if !raft.IsEmptySnap(ready.Snapshot) {
			must(m.storage.ApplySnapshot(ready.Snapshot))
			m.applied, m.group = ready.Snapshot.GetMetadata().GetIndex(), ready.Snapshot.GetMetadata().GetConfState()
			answer.Installed = m.applied
		}
		if !raft.IsEmptyHardState(ready.HardState) {
			must(m.storage.SetHardState(ready.HardState))
		}
		must(m.storage.Append(ready.Entries))
		for _, message := range ready.Messages {
			value, err := proto.Marshal(message)
			must(err)
			answer.Messages = append(answer.Messages, hex.EncodeToString(value))
		}
		for _, each := range ready.CommittedEntries {
			answer.Applied = append(answer.Applied, m.apply(each))
		}
		for _, state := range ready.ReadStates {
			answer.Reads = append(answer.Reads, read{state.Index, hex.EncodeToString(state.RequestCtx)})
		}
		m.node.Advance(ready)
	}
}

func (m *member) perform(verb, argument string, answer *reply) error {
	m.snapshot()
	switch verb {
	case "tick":
		m.node.Tick()
	case "work":
		m.work(answer)
	case "step":
		message := &raftpb.Message{}
		must(proto.Unmarshal(unhex(argument), message))
		return m.node.Step(message)
	case "propose":
		return m.node.Propose(unhex(argument))
	case "change":
		change := &raftpb.ConfChangeV2{}
		must(proto.Unmarshal(unhex(argument), change))
		return m.node.ProposeConfChange(change)
	case "read":
		m.node.ReadIndex(unhex(argument))
	case "transfer":
		m.node.TransferLeader(number(argument))
	case "unreachable":
		m.node.ReportUnreachable(number(argument))
	case "sent":
		m.node.ReportSnapshot(number(argument), raft.SnapshotFinish)
	case "failed":
		m.node.ReportSnapshot(number(argument), raft.SnapshotFailure)
	case "truncate":
		if first, _ := m.storage.FirstIndex(); number(argument) >= first {
			must(m.storage.Compact(number(argument)))
		}
	case "crash":
		m.start()
	}
	return nil
}

func main() {
	lines, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	members := map[string]*member{}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		words := append(strings.Fields(line), "")
		answer := &reply{}
		if words[0] == "new" {
			members[words[1]] = found(words)
		}
		m := members[words[1]]
		if err := m.perform(words[0], words[2], answer); err != nil {
			answer.Error = err.Error()
		}
		status := m.node.BasicStatus()
		answer.Leads = status.RaftState == raft.StateLeader
		answer.Term, answer.Commit = status.HardState.GetTerm(), status.HardState.GetCommit()
		answer.Voters, answer.Learners, answer.Outgoing = m.group.Voters, m.group.Learners, m.group.VotersOutgoing
		must(json.NewEncoder(out).Encode(answer))
		must(out.Flush())
	}
}

type quiet struct{}

func (quiet) Debug(...any)            {}
func (quiet) Debugf(string, ...any)   {}
func (quiet) Error(...any)            {}
func (quiet) Errorf(string, ...any)   {}
func (quiet) Info(...any)             {}
func (quiet) Infof(string, ...any)    {}
func (quiet) Warning(...any)          {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Fatal(values ...any)     { panic(fmt.Sprint(values...)) }
func (quiet) Fatalf(text string, values ...any) {
	panic(fmt.Sprintf(text, values...))
}
func (quiet) Panic(values ...any) { panic(fmt.Sprint(values...)) }
func (quiet) Panicf(text string, values ...any) {
	panic(fmt.Sprintf(text, values...))
}
