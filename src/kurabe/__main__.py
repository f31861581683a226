"""python -m kurabe"""

from kurabe.cli.main import main

main()
