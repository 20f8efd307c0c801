// Command grafanastandin takes Grafana's place in an image of its name where the
// real one cannot be pulled and no package of it exists: scripts/images builds it.
// It draws nothing. It reads the provisioning files and the dashboards as Grafana
// would at its start, refuses what does not parse or does not fit together, and
// answers the few paths of Grafana's HTTP API that docker-compose.yml and its test
// ask for. What a browser would show is not looked at.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

const (
	// address and provisioning are the real image's own.
	address      = ":3000"
	provisioning = "/etc/grafana/provisioning"
	// readHeaderTimeout keeps a silent client from holding a connection.
	readHeaderTimeout = 10 * time.Second
)

type datasource struct {
	Name      string `yaml:"name" json:"name"`
	UID       string `yaml:"uid" json:"uid"`
	Type      string `yaml:"type" json:"type"`
	URL       string `yaml:"url" json:"url"`
	IsDefault bool   `yaml:"isDefault" json:"isDefault"`
}

type provider struct {
	Name    string `yaml:"name"`
	Type    string `yaml:"type"`
	Options struct {
		Path string `yaml:"path"`
	} `yaml:"options"`
}

// reference names a datasource in a dashboard, by uid.
type reference struct {
	UID string `json:"uid"`
}

type panel struct {
	Title      string     `json:"title"`
	Type       string     `json:"type"`
	Datasource *reference `json:"datasource"`
	Panels     []panel    `json:"panels"`
	Targets    []struct {
		Datasource *reference `json:"datasource"`
		Expr       string     `json:"expr"`
	} `json:"targets"`
}

type dashboard struct {
	UID    string  `json:"uid"`
	Title  string  `json:"title"`
	Panels []panel `json:"panels"`

	raw json.RawMessage
}

// installation is what was provisioned.
type installation struct {
	datasources []datasource
	dashboards  []dashboard
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "grafana stand-in:", err)
		os.Exit(1)
	}
}

func run() error {
	in, err := read(provisioning)
	if err != nil {
		return err
	}
	fmt.Printf("grafana stand-in: %d datasources, %d dashboards; nothing is drawn\n", len(in.datasources), len(in.dashboards))
	server := &http.Server{Addr: address, Handler: in.handler(), ReadHeaderTimeout: readHeaderTimeout}
	if err := server.ListenAndServe(); err != nil {
		return fmt.Errorf("serve on %s: %w", address, err)
	}
	return nil
}

// read loads all provisioning files and what they point to, and tells every fault.
func read(dir string) (*installation, error) {
	in := &installation{}
	var faults []error
	err := each(filepath.Join(dir, "datasources"), func(content []byte) error {
		var file struct {
			APIVersion  int          `yaml:"apiVersion"`
			Datasources []datasource `yaml:"datasources"`
		}
		if err := yaml.Unmarshal(content, &file); err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		for _, d := range file.Datasources {
			if d.Name == "" || d.UID == "" || d.Type == "" || d.URL == "" {
				faults = append(faults, fmt.Errorf("datasource %q lacks a name, a uid, a type or a url", d.Name))
			}
		}
		in.datasources = append(in.datasources, file.Datasources...)
		return nil
	})
	faults = append(faults, err)
	err = each(filepath.Join(dir, "dashboards"), func(content []byte) error {
		var file struct {
			APIVersion int        `yaml:"apiVersion"`
			Providers  []provider `yaml:"providers"`
		}
		if err := yaml.Unmarshal(content, &file); err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		for _, p := range file.Providers {
			if p.Type != "file" && p.Type != "" || p.Options.Path == "" {
				faults = append(faults, fmt.Errorf("provider %q reads no folder", p.Name))
				continue
			}
			faults = append(faults, in.readDashboards(p.Options.Path))
		}
		return nil
	})
	faults = append(faults, err)
	if len(in.datasources) == 0 || len(in.dashboards) == 0 {
		faults = append(faults, fmt.Errorf("%s provisions %d datasources and %d dashboards", dir, len(in.datasources), len(in.dashboards)))
	}
	return in, errors.Join(faults...)
}

// each gives the content of every YAML file of a folder to take.
func each(dir string, take func(content []byte) error) error {
	var faults []error
	for _, pattern := range []string{"*.yaml", "*.yml"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err == nil {
				err = take(content)
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", file, err))
			}
		}
	}
	return errors.Join(faults...)
}

func (in *installation) readDashboards(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	var faults []error
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			faults = append(faults, fmt.Errorf("read a dashboard: %w", err))
			continue
		}
		d := dashboard{raw: content}
		if err := json.Unmarshal(content, &d); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", file, err))
			continue
		}
		if d.UID == "" || d.Title == "" || len(d.Panels) == 0 {
			faults = append(faults, fmt.Errorf("%s has no uid, no title or no panel", file))
		}
		faults = append(faults, in.known(file, d.Panels))
		in.dashboards = append(in.dashboards, d)
	}
	return errors.Join(faults...)
}

// known reports panels that ask a datasource which is not there. A name such as
// ${datasource} is a variable of the dashboard.
func (in *installation) known(file string, panels []panel) error {
	var faults []error
	check := func(title string, r *reference) {
		if r == nil || r.UID == "" || strings.HasPrefix(r.UID, "$") || strings.HasPrefix(r.UID, "-- ") || r.UID == "grafana" {
			return
		}
		for _, d := range in.datasources {
			if d.UID == r.UID {
				return
			}
		}
		faults = append(faults, fmt.Errorf("%s: panel %q asks the datasource %q, which is not provisioned", file, title, r.UID))
	}
	for _, p := range panels {
		check(p.Title, p.Datasource)
		for _, t := range p.Targets {
			check(p.Title, t.Datasource)
		}
		faults = append(faults, in.known(file, p.Panels))
	}
	return errors.Join(faults...)
}

func (in *installation) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/health", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"database": "ok", "version": "stand-in"})
	})
	mux.HandleFunc("GET /api/datasources", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, in.datasources)
	})
	mux.HandleFunc("GET /api/search", func(w http.ResponseWriter, _ *http.Request) {
		type found struct {
			UID   string `json:"uid"`
			Title string `json:"title"`
			Type  string `json:"type"`
		}
		all := []found{}
		for _, d := range in.dashboards {
			all = append(all, found{UID: d.UID, Title: d.Title, Type: "dash-db"})
		}
		reply(w, http.StatusOK, all)
	})
	mux.HandleFunc("GET /api/dashboards/uid/{uid}", func(w http.ResponseWriter, r *http.Request) {
		for _, d := range in.dashboards {
			if d.UID == r.PathValue("uid") {
				reply(w, http.StatusOK, map[string]json.RawMessage{"dashboard": d.raw})
				return
			}
		}
		reply(w, http.StatusNotFound, map[string]string{"message": "Dashboard not found"})
	})
	return mux
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		fmt.Fprintln(os.Stderr, "grafana stand-in: answer:", err)
	}
}
