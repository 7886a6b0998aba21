package app

import (
	"fmt"
	"os"
	"strings"

	"filippo.io/age"

	"drydock/config"
)

// recipientsOf are whom a cluster's backups are encrypted for.
func recipientsOf(c config.Cluster) ([]age.Recipient, error) {
	if len(c.EncryptRecipients) == 0 {
		return nil, nil
	}
	out, err := age.ParseRecipients(strings.NewReader(strings.Join(c.EncryptRecipients, "\n")))
	if err != nil {
		return nil, fmt.Errorf("read backup-encrypt-recipients of cluster %s: %w; each is a line that age-keygen printed as public key", c.Name, err)
	}
	return out, nil
}

// identitiesOf are the private keys that open a cluster's encrypted backups. The error holds nothing of the file.
func identitiesOf(c config.Cluster) ([]age.Identity, error) {
	if c.EncryptIdentity == "" {
		return nil, nil
	}
	out, err := ReadIdentities(c.EncryptIdentity)
	if err != nil {
		return nil, fmt.Errorf("read backup-encrypt-identity of cluster %s: %w", c.Name, err)
	}
	return out, nil
}

// ReadIdentities reads a file of private keys. The error holds nothing of what is in it.
func ReadIdentities(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out, err := age.ParseIdentities(f)
	if err != nil {
		return nil, fmt.Errorf("%s holds no private keys as age-keygen writes them", path)
	}
	return out, nil
}

// Identities are the private keys for the backups of a cluster, as the configuration names them.
func Identities(cfg *config.Config, cluster string) ([]age.Identity, error) {
	c, ok := cfg.Cluster(cluster)
	if !ok {
		return nil, nil
	}
	return identitiesOf(c)
}
