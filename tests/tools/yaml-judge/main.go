// SPDX-FileCopyrightText: The multiarch.drone authors
// SPDX-License-Identifier: GPL-3.0-or-later

// yaml-judge reads pipeline files as Drone does: one base64 text a line, one JSON answer a line.
//
// Drone splits a file by Go's line scanner, at lines that begin with `---`, up to one that begins with `...`, and gives each part to a
// fork of yaml.v2. The answer has the value of each part, or the error.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"

	"gopkg.in/yaml.v2"
)

type answer struct {
	Documents []any  `json:"documents"`
	Error     string `json:"error"`
}

func parts(text []byte) [][]byte {
	var found [][]byte
	open := false
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		separator := strings.HasPrefix(line, "---")
		if separator || !open {
			found = append(found, nil)
			open = true
		}
		if separator {
			continue
		}
		if strings.HasPrefix(line, "...") {
			break
		}
		last := len(found) - 1
		found[last] = append(append(found[last], line...), '\n')
	}
	return found
}

// plain returns a value as JSON can say it: a number that JSON has no word for as a tagged text, a key as the text that it is.
func plain(value any) any {
	switch value := value.(type) {
	case map[any]any:
		result := map[string]any{}
		for key, one := range value {
			name, err := json.Marshal(plain(key))
			if err != nil {
				panic(err)
			}
			result[string(name)] = plain(one)
		}
		return result
	case []any:
		result := []any{}
		for _, one := range value {
			result = append(result, plain(one))
		}
		return result
	case float64:
		if math.IsInf(value, 0) || math.IsNaN(value) {
			return map[string]any{"float": fmt.Sprint(value)}
		}
		return map[string]any{"float": value}
	case string:
		// Not every text is UTF-8: !!binary.
		return map[string]any{"text": base64.StdEncoding.EncodeToString([]byte(value))}
	case nil, bool:
		return value
	default:
		return map[string]any{"number": fmt.Sprint(value)}
	}
}

func read(text []byte) (result answer) {
	defer func() {
		if caught := recover(); caught != nil {
			result = answer{Error: fmt.Sprint("panic: ", caught)}
		}
	}()
	result.Documents = []any{}
	for _, part := range parts(text) {
		var value any
		if err := yaml.Unmarshal(part, &value); err != nil {
			return answer{Error: err.Error()}
		}
		result.Documents = append(result.Documents, plain(value))
	}
	return result
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(line)))
		if err != nil {
			panic(err)
		}
		if err := out.Encode(read(text)); err != nil {
			panic(err)
		}
	}
}
