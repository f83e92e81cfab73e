package channel

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Table is an AMQP field table: header and argument values by name. Values may be nil, bool, every Go integer type,
// float32, float64, string, []byte, time.Time (kept to the second), Decimal, Table and []any of these.
// uint and uint64 values beyond the range of int64 cannot be encoded. It is an alias, so that packages without AMQP
// types can read headers.
type Table = map[string]any

// Decimal is an AMQP decimal value: Value divided by ten to the power of Scale.
type Decimal struct {
	Scale uint8
	Value int32
}

// maxNesting bounds how deep tables and arrays may be nested, so that nothing recurses without end.
const maxNesting = 64

// ValidateTable returns an error that names the first key whose name or value AMQP cannot carry.
func ValidateTable(t Table) error { return validateTable(t, "", 0) }

func validateTable(t Table, path string, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("table %s is nested deeper than %d", path, maxNesting)
	}
	for k, v := range t {
		if err := checkShort("table key "+clip(path+k), k); err != nil {
			return err
		}
		if err := validateValue(v, path+k, depth); err != nil {
			return err
		}
	}
	return nil
}

func validateValue(v any, path string, depth int) error {
	switch v := v.(type) {
	case nil, bool, int, int8, int16, int32, int64, uint8, uint16, uint32, float32, float64, string, []byte, Decimal:
		return nil
	case uint:
		if uint64(v) > math.MaxInt64 {
			return fmt.Errorf("table key %s: %d does not fit a signed 64-bit integer", clip(path), v)
		}
	case uint64:
		if v > math.MaxInt64 {
			return fmt.Errorf("table key %s: %d does not fit a signed 64-bit integer", clip(path), v)
		}
	case time.Time:
		if s := v.Unix(); s < 0 && !v.IsZero() {
			return fmt.Errorf("table key %s: time %s is before 1970", clip(path), v.Format(time.RFC3339))
		}
	case Table:
		return validateTable(v, path+".", depth+1)
	case []any:
		if depth > maxNesting {
			return fmt.Errorf("array %s is nested deeper than %d", clip(path), maxNesting)
		}
		for i, e := range v {
			if err := validateValue(e, fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("table key %s: values of type %T cannot be encoded", clip(path), v)
	}
	return nil
}

// CloneTable returns a deep copy that shares no map, slice or byte array with t, its values in the types that AMQP
// delivers: int, uint and uint64 become int64, times are cut to the second and put in UTC. nil stays nil.
func CloneTable(t Table) Table {
	if t == nil {
		return nil
	}
	c := make(Table, len(t))
	for k, v := range t {
		c[k] = cloneValue(v)
	}
	return c
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case uint:
		return int64(v)
	case uint64:
		return int64(v)
	case time.Time:
		return time.Unix(v.Unix(), 0).UTC()
	case Table:
		return CloneTable(v)
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = cloneValue(e)
		}
		return c
	case []byte:
		return append([]byte{}, v...)
	}
	return v
}

// checkShort refuses what does not fit AMQP's short string (section 4.2.5.3): at most 255 bytes of UTF-8.
func checkShort(what, s string) error {
	if len(s) > 255 {
		return fmt.Errorf("%s has %d bytes, the limit is 255", what, len(s))
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not valid UTF-8: %q", what, clip(s))
	}
	return nil
}

// clip shortens what a message quotes.
func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return strings.ToValidUTF8(s[:61], "") + "..."
}
