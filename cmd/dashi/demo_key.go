package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A routing key is LEVEL.PROGRAM.WORD.WORD.WORD: how bad it is, who says it, and the first words of what is said.
// Bounds keep every key far below the 255 bytes that AMQP allows.
const (
	keyWords = 3  // of what is said
	keyWord  = 40 // bytes of each word
	keyHead  = 4096
)

// Levels, as they stand in keys.
const (
	levelError = "error"
	levelWarn  = "warn"
	levelInfo  = "info"
	levelDebug = "debug"
)

// levelNames are the words by which programs say how bad it is.
var levelNames = map[string]string{
	"emerg": levelError, "emergency": levelError, "alert": levelError, "crit": levelError, "critical": levelError,
	"fatal": levelError, "panic": levelError, "error": levelError, "err": levelError, "severe": levelError,
	"warn": levelWarn, "warning": levelWarn, "notice": levelInfo, "info": levelInfo, "information": levelInfo,
	"debug": levelDebug, "trace": levelDebug, "verbose": levelDebug,
}

// troubles are words that tell of trouble in a line that names no level.
var troubles = map[string]string{
	"failed": levelError, "failure": levelError, "fail": levelError, "exception": levelError, "traceback": levelError,
	"segfault": levelError, "denied": levelError, "refused": levelError, "errors": levelError,
	"deprecated": levelWarn, "timeout": levelWarn, "retrying": levelWarn, "skipping": levelWarn,
}

// shapes are the formats that name their program; the order matters.
var (
	shapeSyslog5424 = regexp.MustCompile(`(?s)^<(\d{1,3})>1 \S+ \S+ (\S+) \S+ \S+ (?:-|\[.*?\]) ?(.*)`)
	shapeSyslog     = regexp.MustCompile(`(?s)^(?:<(\d{1,3})>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*) (\S+) ([^\s\[:]+)(?:\[\d+\])?: (.*)`)
	shapeAccess     = regexp.MustCompile(`^\S+ \S+ \S+ \[[^\]]+\] "([A-Z]+) ([^\s?"]*)[^"]*" (\d)(\d\d)\b`)
	shapeBracket    = regexp.MustCompile(`(?s)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\] \d+#\d+: (.*)`)
	shapeGlog       = regexp.MustCompile(`(?s)^([IWEFD])\d{4} [\d:.]+\s+\d+ ([^\s:]+?)(?:\.\w+)?:\d+\] (.*)`)
	shapeKernel     = regexp.MustCompile(`(?s)^\[ *\d+\.\d+\] (.*)`)
)

// keyer derives routing keys; source is the program of lines that name none.
type keyer struct{ source string }

// newKeyer takes the program's name from that of the file: /var/log/dpkg.log.1 is of dpkg.
func newKeyer(file string) keyer {
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	if file == "" || name == "" {
		name = "stdin"
	}
	return keyer{orElse(word(name), "file")}
}

// said is what was understood of a line. Empty parts are not known.
type said struct{ level, program, text string }

// key makes a routing key of any bytes: valid UTF-8, of bounded length, whose words hold no pattern characters.
func (k keyer) key(line []byte) string {
	p := k.parts(line)
	return strings.Join(append([]string{p.level, p.program}, p.words...), ".")
}

// keyParts are the words of a key. The first two are never empty.
type keyParts struct {
	level, program string
	words          []string // the first that tell anything
}

// parts finds the words of a line's key.
func (k keyer) parts(line []byte) keyParts {
	// Only the head is looked at; a line may be a megabyte.
	head := strings.ToValidUTF8(string(line[:min(len(line), keyHead)]), "\uFFFD")
	s := understand(line, head)
	tokens := strings.Fields(s.text)
	if s.level == "" {
		s.level = levelOf(tokens)
	}
	p := keyParts{level: s.level, program: orElse(word(s.program), k.source)}
	for _, t := range tokens {
		if len(p.words) == keyWords {
			break
		}
		if w := word(t); telling(w, len(p.words) == 0) {
			p.words = append(p.words, w)
		}
	}
	return p
}

// understand finds the format of a line by its shape.
func understand(line []byte, head string) said {
	if s, ok := understandJSON(line); ok {
		return s
	}
	if s, ok := understandLogfmt(head); ok {
		return s
	}
	if m := shapeAccess.FindStringSubmatch(head); m != nil {
		level := levelInfo
		switch m[3] {
		case "5":
			level = levelError
		case "4":
			level = levelWarn
		}
		return said{level, "", "status" + m[3] + m[4] + " " + m[1] + " " + strings.ReplaceAll(m[2], "/", " ")}
	}
	if m := shapeSyslog5424.FindStringSubmatch(head); m != nil {
		return said{priority(m[1]), m[2], m[3]}
	}
	if m := shapeSyslog.FindStringSubmatch(head); m != nil {
		// "2024-01-01 10:00:00 INFO store: ..." looks alike, with a level for the host.
		return said{orElse(levelNames[strings.ToLower(m[2])], priority(m[1])), m[3], m[4]}
	}
	if m := shapeBracket.FindStringSubmatch(head); m != nil {
		return said{levelNames[m[1]], "", m[2]}
	}
	if m := shapeGlog.FindStringSubmatch(head); m != nil {
		level := map[string]string{"W": levelWarn, "E": levelError, "F": levelError, "D": levelDebug}[m[1]]
		return said{orElse(level, levelInfo), m[2], m[3]}
	}
	if m := shapeKernel.FindStringSubmatch(head); m != nil {
		return said{"", "kernel", m[1]}
	}
	return said{text: head}
}

// understandJSON reads a line of structured logging, systemd's included.
func understandJSON(line []byte) (said, bool) {
	line = bytes.TrimSpace(line)
	if len(line) < 2 || line[0] != '{' || len(line) > 64<<10 {
		return said{}, false
	}
	var fields map[string]any
	if json.Unmarshal(line, &fields) != nil {
		return said{}, false
	}
	first := func(names ...string) string {
		for _, n := range names {
			if s, ok := fields[n].(string); ok && s != "" {
				return s
			}
		}
		return ""
	}
	s := said{
		level:   levelNames[strings.ToLower(first("level", "severity", "lvl", "log.level", "loglevel", "levelname"))],
		program: first("SYSLOG_IDENTIFIER", "program", "service", "app", "application", "logger", "component", "module", "name", "_COMM"),
		text:    first("msg", "message", "MESSAGE", "event", "text", "error", "err"),
	}
	if p := first("PRIORITY"); s.level == "" && p != "" {
		s.level = priority(p)
	}
	if number, ok := fields["level"].(float64); ok && s.level == "" { // bunyan and pino
		switch {
		case number >= 50:
			s.level = levelError
		case number >= 40:
			s.level = levelWarn
		case number >= 30:
			s.level = levelInfo
		default:
			s.level = levelDebug
		}
	}
	return s, true
}

var logfmtField = regexp.MustCompile(`(?:^|\s)(level|lvl|severity|msg|message|logger|component|service|app|module|caller)=("(?:[^"\\]|\\.)*"|\S*)`)

// understandLogfmt reads key=value lines, as log/slog writes them.
func understandLogfmt(head string) (said, bool) {
	if !strings.Contains(head, "msg=") && !strings.Contains(head, "level=") {
		return said{}, false
	}
	var s said
	for _, m := range logfmtField.FindAllStringSubmatch(head, 16) {
		value := strings.Trim(m[2], `"`)
		switch m[1] {
		case "level", "lvl", "severity":
			s.level = levelNames[strings.ToLower(value)]
		case "msg", "message":
			s.text = value
		case "caller":
			s.program = orElse(s.program, strings.TrimSuffix(strings.Split(filepath.Base(value), ":")[0], ".go"))
		default:
			s.program = value
		}
	}
	return s, s.text != "" || s.level != ""
}

// priority is the level of a syslog priority: the lower three bits.
func priority(s string) string {
	n, err := strconv.Atoi(s)
	if err != nil {
		return ""
	}
	switch n &= 7; {
	case n <= 3:
		return levelError
	case n == 4:
		return levelWarn
	case n == 7:
		return levelDebug
	}
	return levelInfo
}

// levelOf looks for a level among the first words, then for trouble anywhere.
func levelOf(tokens []string) string {
	trouble := ""
	for i, t := range tokens {
		t = strings.ToLower(strings.Trim(t, `[]()<>{}:;,."'!|*-`))
		if l, ok := levelNames[t]; ok && i < 8 {
			return l
		}
		if l, ok := troubles[t]; ok && trouble != levelError {
			trouble = l
		}
	}
	return orElse(trouble, levelInfo)
}

// word makes a word of a key from a token: lower case, letters, digits, "-" and "_" only.
func word(token string) string {
	var b strings.Builder
	for _, r := range token {
		switch {
		case r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r):
			r = unicode.ToLower(r)
		default:
			r = '_'
		}
		if b.Len()+utf8.RuneLen(r) > keyWord {
			break
		}
		if r != '_' || (b.Len() > 0 && b.String()[b.Len()-1] != '_') {
			b.WriteRune(r)
		}
	}
	return strings.Trim(b.String(), "_-")
}

// telling reports whether a word tells anything: not numbers, times and addresses, not the level again, and not the
// name of a day or month before the first word.
func telling(w string, first bool) bool {
	letters, digits, hex := 0, 0, true
	for _, r := range w {
		switch {
		case unicode.IsDigit(r):
			digits++
		case unicode.IsLetter(r):
			letters++
			hex = hex && r <= 'f'
		}
	}
	if letters == 0 || (hex && digits > 0 && len(w) >= 8) {
		return false
	}
	if strings.HasPrefix(w, "status") {
		return true
	}
	return digits <= letters && (!first || !calendar[w] && levelNames[w] == "")
}

var calendar = func() map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq("mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec utc am pm") {
		m[w] = true
	}
	return m
}()

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
