package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dashi-mq/dashi/channel"
)

// A table is a JSON object. Whole numbers are integers of AMQP, others floats; what JSON has no values for is an object
// with one of these keys.
const (
	markBytes   = "$bytes"   // base64
	markText    = "$text"    // base64 of a text that is not UTF-8
	markTime    = "$time"    // seconds since 1970
	markDecimal = "$decimal" // [scale, value]
	markFloat   = "$float"   // "NaN", "+Inf" or "-Inf"
	markTable   = "$table"   // a table that looks like one of these
)

// tableOf reads a JSON object as an AMQP table.
func tableOf(text string) (channel.Table, error) {
	var t map[string]any
	if err := decodeJSON([]byte(text), &t); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	return amqpTable(t)
}

// decodeJSON reads one JSON value and nothing else. Numbers stay as they are written, and structs know all their fields.
func decodeJSON(text []byte, v any) error {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows it")
	}
	return nil
}

// pairs reads NAME=VALUE, several times, as a table. A value is JSON where it can be, such as 5, true or "5", else text.
func pairs(texts []string) (channel.Table, error) {
	t := make(map[string]any, len(texts))
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not NAME=VALUE", text)
		}
		if _, twice := t[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		var v any
		if decodeJSON([]byte(value), &v) != nil {
			v = value
		}
		t[name] = v
	}
	return amqpTable(t)
}

// amqpTable puts AMQP's values for those of JSON.
func amqpTable(t map[string]any) (channel.Table, error) {
	t, err := amqpFields(t)
	if err != nil {
		return nil, err
	}
	return t, channel.ValidateTable(t)
}

func amqpFields(t map[string]any) (channel.Table, error) {
	for k, x := range t {
		v, err := amqpValue(x)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		t[k] = v
	}
	return t, nil
}

func amqpValue(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("number %s: %w", v, errors.Unwrap(err))
		}
		return f, nil
	case map[string]any:
		if len(v) == 1 {
			for mark, x := range v {
				if strings.HasPrefix(mark, "$") {
					return markedValue(mark, x)
				}
			}
		}
		return amqpFields(v)
	case []any:
		for i, x := range v {
			y, err := amqpValue(x)
			if err != nil {
				return nil, err
			}
			v[i] = y
		}
	}
	return v, nil
}

// markedValue reads what a mark stands before. An unknown mark is the key of a table.
func markedValue(mark string, x any) (any, error) {
	wrong := func(want string) (any, error) { return nil, fmt.Errorf("%s must be %s", mark, want) }
	switch mark {
	case markBytes, markText:
		s, isText := x.(string)
		b, err := base64.StdEncoding.DecodeString(s)
		if !isText || err != nil {
			return wrong("base64")
		}
		if mark == markText {
			return string(b), nil
		}
		return b, nil
	case markTime:
		n, _ := x.(json.Number)
		seconds, err := n.Int64()
		if err != nil {
			return wrong("seconds since 1970")
		}
		return time.Unix(seconds, 0).UTC(), nil
	case markDecimal:
		var d channel.Decimal
		if list, _ := x.([]any); len(list) == 2 {
			scale, scaleErr := strconv.ParseUint(fmt.Sprint(list[0]), 10, 8)
			value, valueErr := strconv.ParseInt(fmt.Sprint(list[1]), 10, 32)
			if scaleErr == nil && valueErr == nil {
				d.Scale, d.Value = uint8(scale), int32(value)
				return d, nil
			}
		}
		return wrong("[scale, value] in 8 and 32 bits")
	case markFloat:
		s, _ := x.(string)
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return wrong("a float as text")
		}
		return f, nil
	case markTable:
		t, ok := x.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		return amqpFields(t)
	}
	return amqpFields(map[string]any{mark: x})
}

// jsonTable makes of a table what tableOf reads, with equal values: integers and floats of any width are numbers. nil
// stays nil.
func jsonTable(t channel.Table) map[string]any {
	if t == nil {
		return nil
	}
	out := make(map[string]any, len(t))
	for k, v := range t {
		out[k] = jsonValue(v)
	}
	return out
}

func jsonValue(v any) any {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return map[string]any{markText: []byte(v)}
		}
	case []byte:
		return map[string]any{markBytes: append([]byte{}, v...)} // nil would become null
	case float32:
		return jsonFloat(float64(v))
	case float64:
		return jsonFloat(v)
	case time.Time:
		return map[string]any{markTime: v.Unix()}
	case channel.Decimal:
		return map[string]any{markDecimal: []any{v.Scale, v.Value}}
	case channel.Table:
		t := jsonTable(v)
		if t == nil {
			t = map[string]any{}
		}
		if len(t) == 1 {
			for k := range t {
				if strings.HasPrefix(k, "$") {
					return map[string]any{markTable: t}
				}
			}
		}
		return t
	case []any:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = jsonValue(x)
		}
		return list
	}
	return v
}

// jsonFloat writes a float so that it is not taken for an integer.
func jsonFloat(f float64) any {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return map[string]any{markFloat: s}
	}
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return json.Number(s)
}
