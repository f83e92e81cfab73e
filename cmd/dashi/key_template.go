package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxKey is how many bytes AMQP allows a routing key.
const maxKey = 255

// noWord stands in a key for a field that a line does not have, or that has no letters and digits, so that every key of a
// template has the same number of words.
const noWord = "_"

// keyTemplate makes routing keys of lines: text with fields such as $5, ${5}, $level, $program and $words.
type keyTemplate struct {
	parts []keyPart
	log   keyer // finds level, program and words
	last  int   // the highest field
	named bool  // level, program or words are asked for
}

// keyPart is text, or a field by number or name.
type keyPart struct {
	text   string
	number int
	name   string
}

// templateField is a field of a template, in its first or second group: $5, $level, ${5}, ${level}.
var templateField = regexp.MustCompile(`^\$(?:([0-9]+|[a-z]+)|\{([0-9]+|[a-z]+)\})`)

// parseKeyTemplate reads a template. One whose keys could be too long is refused here, and not at some line.
func parseKeyTemplate(text string) (*keyTemplate, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not valid UTF-8")
	}
	t := &keyTemplate{log: newKeyer("")}
	longest := 0
	for text != "" {
		before, rest, found := strings.Cut(text, "$")
		if before != "" {
			t.parts = append(t.parts, keyPart{text: before})
			longest += len(before)
		}
		if !found {
			break
		}
		if after, ok := strings.CutPrefix(rest, "$"); ok { // $$ is a dollar
			t.parts = append(t.parts, keyPart{text: "$"})
			longest, text = longest+1, after
			continue
		}
		text = text[len(before):]
		m := templateField.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("after %q: a field is $1, ${1}, $level, $program or $words, and $$ a dollar", before+"$")
		}
		part, room, err := parseField(m[1] + m[2])
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part)
		t.last = max(t.last, part.number)
		t.named = t.named || part.name != ""
		longest, text = longest+room, text[len(m[0]):]
	}
	if longest > maxKey {
		return nil, fmt.Errorf("its keys could have %d bytes (a field has up to %d), and %d are allowed", longest, keyWord, maxKey)
	}
	return t, nil
}

// parseField reads a field's name and tells how many bytes it may become.
func parseField(name string) (keyPart, int, error) {
	switch name {
	case "level", "program":
		return keyPart{name: name}, keyWord, nil
	case "words":
		return keyPart{name: name}, keyWords*(keyWord+1) - 1, nil
	}
	n, err := strconv.Atoi(name)
	switch {
	case err == nil && n > 0:
		return keyPart{number: n}, keyWord, nil
	case err == nil || errors.Is(err, strconv.ErrRange):
		return keyPart{}, 0, fmt.Errorf("there is no field $%s: they are counted from 1", name)
	}
	return keyPart{}, 0, fmt.Errorf("there is no field $%s: there are $1, $2 and so on, $level, $program and $words", name)
}

// key makes the routing key of a line. Each numbered field becomes one word.
func (t *keyTemplate) key(line []byte) string {
	fields := make([]string, t.last)
	n := 0
	for field := range bytes.FieldsSeq(line) {
		if n == t.last {
			break
		}
		fields[n] = word(string(field[:min(len(field), keyHead)]))
		n++
	}
	var named keyParts
	if t.named {
		named = t.log.parts(line)
	}
	var b strings.Builder
	for _, p := range t.parts {
		switch {
		case p.number > 0:
			b.WriteString(orElse(fields[p.number-1], noWord))
		case p.name == "level":
			b.WriteString(named.level)
		case p.name == "program":
			b.WriteString(named.program)
		case p.name == "words":
			b.WriteString(orElse(strings.Join(named.words, "."), noWord))
		default:
			b.WriteString(p.text)
		}
	}
	return b.String()
}
