package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"drydock/config"
)

func (c *cli) importCmd() *cobra.Command {
	var o config.ImportOptions
	var secrets, file string
	cmd := &cobra.Command{
		Use:   "import-repman FILE...",
		Short: "Say what becomes of a configuration of replication-manager here, and make one of drydock of it",
		Long: "Reads replication-manager's config.toml (and the files of cluster.d and its own overwrites, when they are named or included)\n" +
			"and says of each key whether it maps, does nothing here or is unknown. It changes nothing.\n\n" +
			"With -o toml it prints a configuration of drydock, with --write FILE it writes one. Passwords are not copied: references stand in\n" +
			"their place, and what to put behind them is listed. The schedules are written switched off, so that nothing runs twice.\n" +
			"docs/moving.md has the steps.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Secrets = config.SecretsAs(secrets)
			switch o.Secrets {
			case config.SecretsEnv, config.SecretsFile, config.SecretsCopy:
			default:
				return fmt.Errorf("unknown --secrets %q: it is env, file or copy", secrets)
			}
			got, err := config.ImportFiles(args, o)
			if err != nil {
				return err
			}
			if file != "" {
				if err := config.WriteNew(file, got.TOML); err != nil {
					return err
				}
			}
			return c.printImport(cmd, got, file)
		},
	}
	cmd.Flags().StringVarP(&c.output, "output", "o", "table", "table, json, yaml, or toml for the configuration alone")
	cmd.Flags().StringVar(&file, "write", "", "write the configuration into this `FILE`, which must not exist")
	cmd.Flags().StringVar(&secrets, "secrets", "env", "what stands for passwords: env (variables), file (files below secrets/), or copy (the passwords themselves)")
	cmd.Flags().BoolVar(&o.TakeOver, "take-over", false, "leave the schedules switched on: replication-manager's are off already")
	return cmd
}

func (c *cli) printImport(cmd *cobra.Command, got *config.Import, file string) error {
	out := cmd.OutOrStdout()
	if c.output == "toml" {
		fmt.Fprint(out, got.TOML)
		return nil
	}
	var rows [][]string
	for _, k := range got.Keys {
		rows = append(rows, []string{string(k.Verdict), k.Section, k.Key, k.Where, k.Text})
	}
	if err := c.print(out, got, []string{"VERDICT", "SECTION", "KEY", "WHERE", "WHAT"}, rows); err != nil || c.output != "table" {
		return err
	}
	if len(got.References) > 0 {
		fmt.Fprintln(out, "\nSecrets to put in place:")
		for _, r := range got.References {
			fmt.Fprintf(out, "  %s  %s\n", r.Name, printable(r.For))
		}
	}
	if len(got.Open) > 0 {
		fmt.Fprintln(out, "\nStill to do before drydock takes it:")
		for _, line := range got.Open {
			fmt.Fprintf(out, "  %s\n", printable(line))
		}
	}
	if file != "" {
		fmt.Fprintf(out, "\nWritten to %s. Next: drydock check --config %s\n", file, file)
	}
	return nil
}
