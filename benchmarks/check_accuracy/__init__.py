"""How often ``chainrule.check`` finds a mistake, and how often it names the right one."""
