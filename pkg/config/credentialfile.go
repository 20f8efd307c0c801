package config

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

const (
	// credentialsKey is the list of credentials in the file. It is no flag and no
	// variable: a list of maps fits into neither.
	credentialsKey = "pleo-credentials"

	// MaxCredentials bounds the list. An organisation with more companies than this
	// has one credential for all of them.
	MaxCredentials = 1000
)

// The keys of one credential.
const (
	keyCompany      = "company-id"
	keyOrganisation = "organisation"
)

// credentialFields are the keys that a credential may have, and where each goes.
func credentialFields(c *Credential) map[string]func(text string) {
	secret := func(s *Secret) func(string) { return func(text string) { *s = NewSecret(text) } }
	file := func(s *Secret) func(string) { return func(path string) { *s = SecretFromFile(path) } }
	plain := func(s *string) func(string) { return func(text string) { *s = text } }
	return map[string]func(string){
		"token": secret(&c.Token), "token-file": file(&c.Token),
		"api-key": secret(&c.APIKey), "api-key-file": file(&c.APIKey),
		"client-id":     plain(&c.ClientID),
		"client-secret": secret(&c.ClientSecret), "client-secret-file": file(&c.ClientSecret),
		"refresh-token": secret(&c.RefreshToken), "refresh-token-file": file(&c.RefreshToken),
		"token-url": plain(&c.TokenURL),
	}
}

// takeCredentials reads the list of credentials.
func (f *settingsFile) takeCredentials(node ast.Node, line int) {
	if f.credentialsLine != 0 {
		f.add(line, fmt.Sprintf("sets %s again, after line %d", credentialsKey, f.credentialsLine), "keep one of them")
		return
	}
	f.credentialsLine = line
	if isEmpty(node) {
		return
	}
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		f.add(line, "gives "+credentialsKey+" something other than a list", "write one `- company-id: …` for each company")
		return
	}
	if len(list.Values) > MaxCredentials {
		f.add(line, fmt.Sprintf("lists more than %d credentials", MaxCredentials), "use an organisation's credential")
		return
	}
	for _, value := range list.Values {
		f.takeCredential(value)
	}
}

func (f *settingsFile) takeCredential(node ast.Node) {
	line := lineOf(node)
	entries, ok := mapEntries(node)
	if !ok {
		f.add(line, "has a credential that is no map", "write `- company-id: …` and the credential's own keys below")
		return
	}
	c := Credential{at: fmt.Sprintf("%s:%d", f.path, line)}
	fields := credentialFields(&c)
	known := []string{keyCompany, keyOrganisation}
	for key := range fields {
		known = append(known, key)
	}
	slices.Sort(known)       // for the same suggestion each time
	seen := map[string]int{} // lines; the parser refuses a key that stands twice
	bad := func(line int, problem, wayOut string) {
		f.add(line, problem, wayOut)
		c.unsound = true
	}
	organisation := false
	for _, entry := range entries {
		at := entry.Key.GetToken().Position.Line
		name, ok := entry.Key.(ast.Node).(*ast.StringNode)
		if !ok {
			bad(at, "has a key that is no name", "use the keys of a credential")
			continue
		}
		key := name.Value
		if !slices.Contains(known, key) {
			wayOut := "remove it"
			if near := nearest(key, known); near != "" {
				wayOut = "did you mean " + near + "?"
			}
			bad(at, fmt.Sprintf("has the key %q, which no credential has", key), wayOut)
			continue
		}
		seen[key] = at
		text, given, ok := scalar(entry.Value)
		switch {
		case !ok:
			bad(at, fmt.Sprintf("gives %s something other than a single value", key), "write one text")
		case !given || text == "":
			bad(at, "gives "+key+" no value", "give one, or leave the key out")
		case key == keyCompany:
			if c.CompanyID, ok = companyID(text); !ok {
				bad(at, keyCompany+" is not a UUID", "give the company's id, or leave it out for the default credential")
			}
		case key == keyOrganisation:
			if organisation, ok = truths[text]; !ok {
				bad(at, keyOrganisation+" is neither true nor false", "give true, or leave it out")
			}
		default:
			fields[key](text)
		}
	}
	if organisation && seen[keyCompany] != 0 {
		bad(line, "has a credential of an organisation and of one company", "keep "+keyOrganisation+" or "+keyCompany)
	}
	for _, key := range known {
		if _, both := seen[key+fileFlag]; both && seen[key] != 0 {
			bad(seen[key], "gives "+key+" and "+key+fileFlag+" as well", "give one of the two")
		}
	}
	f.credentials = append(f.credentials, c)
}
