// SPDX-FileCopyrightText: The multiarch.drone authors
// SPDX-License-Identifier: GPL-3.0-or-later

// judge answers with BuildKit's own code what the collection's readers claim: one JSON request a line, one JSON answer a line.
//
//	{"dockerfile": TEXT, "args": {}, "target": "", "platforms": ["linux/arm64"], "contexts": {"NAME": "docker-image://…"}}
//	    the images and URLs that the build takes, the frontend that it is forwarded to, the error
//	{"ignore": TEXT, "paths": ["a", "a/b"]}: which of the paths a client sends
//	{"word": TEXT, "args": {}}: the word after expansion
//
// Texts are base64, since not every file is UTF-8.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	gofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

type request struct {
	Dockerfile *string           `json:"dockerfile"`
	Ignore     *string           `json:"ignore"`
	Word       *string           `json:"word"`
	Escape     string            `json:"escape"`
	Args       map[string]string `json:"args"`
	Target     string            `json:"target"`
	Platforms  []string          `json:"platforms"`
	Contexts   map[string]string `json:"contexts"`
	Paths      []string          `json:"paths"` // base64, too
	dockerfile []byte
}

type answer struct {
	Images   []string          `json:"images"`
	Named    []string          `json:"named"` // by every stage, with the target "*"
	URLs     []string          `json:"urls"`
	Frontend string            `json:"frontend"`
	Errors   map[string]string `json:"errors"` // of each target
	Sent     []string          `json:"sent"`
	Word     string            `json:"word"`
	Error    string            `json:"error"`
}

// recorder is a gateway client that solves nothing, and remembers what it was asked for.
type recorder struct {
	request
	mu       sync.Mutex
	images   map[string]bool
	urls     map[string]bool
	frontend string
	target   string
}

func (r *recorder) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[ref] = true
	platform := platforms.DefaultSpec()
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		platform = *opt.ImageOpt.Platform
	}
	image := map[string]any{
		"os": platform.OS, "architecture": platform.Architecture, "variant": platform.Variant, "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest.FromString(ref).String()}},
	}
	config, err := json.Marshal(image)
	return ref, "", config, err
}

func (r *recorder) ResolveSourceMetadata(context.Context, *pb.SourceOp, sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return nil, errors.New("no source metadata here")
}

func (r *recorder) Solve(_ context.Context, req client.SolveRequest) (*client.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	result := client.NewResult()
	if req.Frontend != "" {
		r.frontend = req.FrontendOpt["source"]
		return result, nil
	}
	if req.Definition != nil {
		for _, def := range req.Definition.Def {
			var op pb.Op
			if err := op.Unmarshal(def); err != nil {
				return nil, err
			}
			if source := op.GetSource(); source != nil {
				scheme, rest, _ := strings.Cut(source.Identifier, "://")
				switch scheme {
				case "docker-image":
					r.images[rest] = true
				case "local":
				case "http", "https":
					if source.Attrs["http.checksum"] == "" {
						r.urls[source.Identifier] = true
					}
				case "git":
					if source.Attrs["git.checksum"] == "" {
						r.urls[source.Identifier] = true
					}
				default:
					r.urls[source.Identifier] = true
				}
			}
		}
	}
	result.SetRef(&reference{r})
	return result, nil
}

func (r *recorder) BuildOpts() client.BuildOpts {
	opts := map[string]string{"platform": strings.Join(r.Platforms, ","), "target": r.target}
	for name, value := range r.Args {
		opts["build-arg:"+name] = value
	}
	for name, value := range r.Contexts {
		opts["context:"+name] = value
	}
	return client.BuildOpts{
		Opts: opts, SessionID: "judge",
		Caps: gwpb.Caps.CapSet(gwpb.Caps.All()), LLBCaps: pb.Caps.CapSet(pb.Caps.All()),
	}
}

func (r *recorder) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }
func (r *recorder) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.New("no containers here")
}
func (r *recorder) Warn(context.Context, digest.Digest, string, client.WarnOpts) error { return nil }

// reference is a directory with the Dockerfile alone.
type reference struct{ *recorder }

func (r *reference) ToState() (llb.State, error)    { return llb.Scratch(), nil }
func (r *reference) Evaluate(context.Context) error { return nil }
func (r *reference) ReadFile(_ context.Context, req client.ReadRequest) ([]byte, error) {
	if filepath.Base(req.Filename) != "Dockerfile" {
		return nil, os.ErrNotExist
	}
	return r.dockerfile, nil
}
func (r *reference) StatFile(_ context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	return nil, os.ErrNotExist
}
func (r *reference) ReadDir(context.Context, client.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, nil
}

func build(req request) answer {
	r := &recorder{request: req, images: map[string]bool{}, urls: map[string]bool{}}
	result := answer{Errors: map[string]string{}}
	targets := []string{req.Target}
	if req.Target == "*" {
		targets = []string{""}
		if list, err := dockerfile2llb.ListTargets(context.Background(), req.dockerfile); err == nil {
			for number := range list.Targets {
				targets = append(targets, fmt.Sprint(number))
				if name := list.Targets[number].Name; name != "" {
					targets[len(targets)-1] = name
				}
			}
		}
	}
	for _, target := range targets {
		r.target = target
		if _, err := builder.Build(context.Background(), r); err != nil {
			result.Errors[target] = err.Error()
		}
	}
	result.Images, result.URLs, result.Frontend = keys(r.images), keys(r.urls), r.frontend
	if req.Target == "*" && r.frontend == "" {
		result.Named = named(r)
	}
	return result
}

// named returns the images of every stage, reachable or not; nothing where one of them is an error.
func named(r *recorder) []string {
	r.images, r.target = map[string]bool{}, ""
	bc, err := dockerui.NewClient(r)
	if err != nil {
		return nil
	}
	wished := []*ocispecs.Platform{nil}
	if len(bc.TargetPlatforms) > 0 {
		wished = nil
		for number := range bc.TargetPlatforms {
			wished = append(wished, &bc.TargetPlatforms[number])
		}
	}
	for _, platform := range wished {
		opt := dockerfile2llb.ConvertOpt{Config: bc.Config, Client: bc, MetaResolver: r, TargetPlatform: platform, AllStages: true}
		opt.BuildArgs = maps.Clone(opt.BuildArgs)
		opt.Warn = func(string, string, string, string, []parser.Range) {}
		if _, err := dockerfile2llb.Dockerfile2LLB(context.Background(), r.dockerfile, opt); err != nil {
			return nil
		}
	}
	return keys(r.images)
}

func keys(set map[string]bool) []string {
	list := []string{}
	for key := range set {
		list = append(list, key)
	}
	sort.Strings(list)
	return list
}

// tree is a file system of empty files, with the directories that hold them.
type tree []string

func (t tree) Open(string) (io.ReadCloser, error) { return nil, os.ErrNotExist }

func (t tree) Walk(_ context.Context, _ string, fn gofs.WalkDirFunc) error {
	parents := map[string]bool{}
	all := append([]string{}, t...)
	for _, path := range t {
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			if !parents[dir] {
				parents[dir] = true
				all = append(all, dir)
			}
		}
	}
	sort.Slice(all, func(i, j int) bool {
		return strings.ReplaceAll(all[i], "/", "\x00") < strings.ReplaceAll(all[j], "/", "\x00")
	})
	skipped, last := "", ""
	for _, path := range all {
		if path == last || (skipped != "" && strings.HasPrefix(path, skipped)) {
			continue
		}
		last = path
		stat := &fstypes.Stat{Path: path}
		if parents[path] {
			stat.Mode = uint32(os.ModeDir)
		}
		switch err := fn(path, &fsutil.DirEntryInfo{Stat: stat}, nil); err {
		case nil:
		case filepath.SkipDir:
			if parents[path] {
				skipped = path + "/"
			}
		default:
			return err
		}
	}
	return nil
}

func send(text []byte, paths []string) (result answer) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return answer{Error: err.Error()}
	}
	// The frontend tries them once, and sends them to the client as JSON.
	if _, err = patternmatcher.New(patterns); err != nil {
		return answer{Error: err.Error()}
	}
	sent, err := json.Marshal(patterns)
	if err != nil {
		return answer{Error: err.Error()}
	}
	if err = json.Unmarshal(sent, &patterns); err != nil {
		return answer{Error: err.Error()}
	}
	fs, err := fsutil.NewFilterFS(tree(paths), &fsutil.FilterOpt{ExcludePatterns: patterns})
	if err != nil {
		return answer{Error: err.Error()}
	}
	result.Sent = []string{}
	err = fs.Walk(context.Background(), "/", func(path string, _ gofs.DirEntry, err error) error {
		result.Sent = append(result.Sent, base64.StdEncoding.EncodeToString([]byte(path)))
		return err
	})
	if err != nil {
		return answer{Error: err.Error()}
	}
	return result
}

func expand(word []byte, req request) answer {
	env := []string{}
	for name, value := range req.Args {
		env = append(env, name+"="+value)
	}
	escape := '\\'
	if req.Escape == "`" {
		escape = '`'
	}
	text, _, err := shell.NewLex(escape).ProcessWord(string(word), shell.EnvsFromSlice(env))
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Word: text}
}

func serve(line []byte) (result answer) {
	defer func() {
		if cause := recover(); cause != nil {
			result = answer{Error: fmt.Sprint("panic: ", cause)}
		}
	}()
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return answer{Error: err.Error()}
	}
	decode := func(text *string) []byte {
		data, err := base64.StdEncoding.DecodeString(*text)
		if err != nil {
			panic(err)
		}
		return data
	}
	switch {
	case req.Dockerfile != nil:
		req.dockerfile = decode(req.Dockerfile)
		return build(req)
	case req.Ignore != nil:
		for number := range req.Paths {
			req.Paths[number] = string(decode(&req.Paths[number]))
		}
		return send(decode(req.Ignore), req.Paths)
	case req.Word != nil:
		return expand(decode(req.Word), req)
	}
	return answer{Error: "dockerfile, ignore or word is needed"}
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			if err := out.Encode(serve(line)); err != nil {
				os.Exit(1)
			}
		}
		if err != nil {
			return
		}
	}
}

var _ client.Client = (*recorder)(nil)
