package script

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPastFailures runs the scripts that once failed, made small: testdata/NAME.json. Those whose name ends in ".one" or
// another rig run on that rig alone, the others on rigs one and two.
func TestPastFailures(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts of past failures: %v", err)
	}
	ran := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		on := []string{"one", "two"}
		if alone := strings.TrimPrefix(filepath.Ext(name), "."); alone != "" {
			on = []string{alone}
		}
		for _, rig := range on {
			ran++
			t.Run(name+"/"+rig, func(t *testing.T) {
				if _, err := trace(t, rig, s); err != nil {
					t.Error(err)
				}
			})
		}
	}
	fmt.Printf("scripts: %d past failures, %d runs\n", len(files), ran)
}
